"""Measured speed of exported networks: files take turns with the dense one, and plans are asked for until they are as
fast as wanted.

One image, one thread, ONNX Runtime, processor time, median of the ratios of a round; rounds in which the dense file is
slower than usual do not count.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path

import numpy as np
from _common import interleaved, paired_ratio, warm_seconds

from edgecr.data.base import Dataset
from edgecr.exporters.onnx.declaration import PLAIN
from edgecr.exporters.onnx.write import write
from edgecr.predictors.onnx_predictor import open_session
from edgecr.subject import Subject

CALM, LONGEST = 1.04, 5
"""Largest time of the dense file in a calm round, relative to the usual one; most repetitions of all rounds."""
CLEARLY = 1.01
"""Factor by which a file should be faster than wanted when its latency is asked for anew."""
NOISE = 0.97
"""Speed-up, relative to the one that was wanted, from which on a file counts as that fast."""
TURN_S = 0.02
"""Seconds that a file is measured in each round, after as many seconds that only warm it up."""


class File:
    """An exported network that answers one image in one thread."""

    def __init__(self, subject: Subject, data: Dataset, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(subject, PLAIN, data.preprocessing, path)
        self._session = open_session(path, threads=1)
        self._image = np.random.default_rng(0).standard_normal((1, *subject.input_shape), dtype=np.float32)

    def seconds(self) -> float:
        """Processor time of one call, the median of a turn."""
        return warm_seconds(lambda: self._session.run(None, {"input": self._image}), TURN_S)


class Speed:
    """Speed-ups over one dense network."""

    def __init__(self, dense: Subject, data: Dataset, folder: Path, rounds: int) -> None:
        self._dense = File(dense, data, folder / "dense.onnx")
        self._data, self._rounds = data, rounds
        self._usual: list[float] = []
        """The dense file in every round that was measured."""

    def of(self, subject: Subject, folder: Path) -> float:
        """By the rounds in which the dense file was as fast as usual, or nearly, once there are enough of them."""
        file = File(subject, self._data, folder / "pruned.onnx")
        samples: dict[str, list[float]] = {"dense": [], "pruned": []}
        calm: list[int] = []
        for _ in range(LONGEST):
            more = interleaved({"dense": self._dense.seconds, "pruned": file.seconds}, self._rounds)
            samples = {name: [*own, *more[name]] for name, own in samples.items()}
            self._usual.extend(more["dense"])
            usual = sorted(self._usual)[len(self._usual) // 10]
            calm = [number for number, seconds in enumerate(samples["dense"]) if seconds <= CALM * usual]
            if len(calm) >= self._rounds // 2:
                break
        dense, pruned = ([own[number] for number in calm] if calm else own for own in samples.values())
        return paired_ratio(dense, pruned)

    def reached(
        self, plan: Callable[[float], Subject], wanted: float, tries: int, folder: Path
    ) -> tuple[float, Subject, float]:
        """The slowest of the plans that are as fast as wanted, its speed-up, and the one that it was asked for.

        ``plan`` is given a fraction of the dense latency, and again more or less if its file is slower or faster.
        """
        tried: list[tuple[float, Subject, float]] = []
        asked, slow, fast = wanted, 0.0, math.inf
        while len(tried) < tries and not (tried and NOISE <= tried[-1][0] / wanted <= 1 / NOISE):
            subject = plan(1 / asked)
            speedup = self.of(subject, folder)
            print(f"  {folder.name}: {asked:.3f} asked brings {speedup:.3f}", file=sys.stderr, flush=True)
            tried.append((speedup, subject, asked))
            slow, fast = (max(slow, asked), fast) if speedup < wanted else (slow, min(fast, asked))
            asked *= CLEARLY * wanted / speedup
            asked = asked if slow < asked < fast else (slow + fast) / 2
        enough = [one for one in tried if one[0] >= NOISE * wanted]
        return (min if enough else max)(enough or tried, key=itemgetter(0))
