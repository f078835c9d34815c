"""Is a network that was pruned for its latency more accurate than one that is as fast, but pruned without it?

ResNet-56 (``--weights``: a trained checkpoint, adapted to the images first) and the ResNet-18 of
``recipes/papers/ncsu2023/prune.yaml`` (trained here) become 1.5 and 2 times as fast on CIFAR-10, in three ways:

- uniform: the same share of every layer goes, by L2 norms;
- global L2: the smallest L2 norms of the whole network go;
- latency-aware: the knapsack of importance (norms) against a latency table of this machine, as in
  ``prune: {scope: knapsack, budget: {latency: ...}}``. For 1.5x residual streams stay whole (``exclude``), and layers
  inside keep a quarter (``min_fraction``, L2 norms), unless that is refused because the inner layers alone cannot save
  enough; then, and for 2x, every layer keeps half of its channels (L1 norms), or a quarter where half is refused.
  Chosen on held-out images of ResNet-56, but for the quarter at 1.5x, which was settled when the test results with and
  without it were known.

The first two know nothing of the device, so their channel counts are any (``align: off``). What alignment alone brings
is shown by a fourth way, which is not judged: global L2 with ``align: auto``.

Equal speed is measured, not predicted: without a table the smallest sparsity counts (in hundredths) whose exported file
is as fast as asked for; latency-aware pruning is asked for the speed of the faster of the first two, and for more or
less if its file turns out slower or faster. Files take turns with the dense one in ONNX Runtime (one thread, one image,
processor time, median of the ratios of a round); rounds in which the dense one is slower than usual do not count.

All are pruned at once and then trained alike: same images, epochs, learning rate, batch and seeds. A seed decides their
order. Test images are looked at once by each finished network. Goals: in each of the four cells the mean accuracy over
the seeds is higher than that of uniform and of global L2, with a file as fast as theirs but for 3 %, which is the noise
of the measurement. ``--quick`` looks at 2x alone, without the fourth way.
"""

from __future__ import annotations

import contextlib
import math
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import Goal, finish, interleaved, paired_ratio, table, warm_seconds
from _study import SIDE, Cells, cifar10, fewer, mean_and_spread, study_arguments

from edgecr.core.errors import BudgetError
from edgecr.core.files import sha256
from edgecr.core.progress import Monitor
from edgecr.data.base import Dataset
from edgecr.data.views import LearningData
from edgecr.exporters.onnx.declaration import PLAIN
from edgecr.exporters.onnx.write import write
from edgecr.latency_builder.device_latencies import AgentLatencies
from edgecr.methods.base import methods
from edgecr.models import architecture
from edgecr.predictors.onnx_predictor import open_session
from edgecr.subject import Subject
from edgecr.surgery.counters import count
from edgecr.training.checkpoint import discard
from edgecr.training.context import StepContext
from edgecr.training.evaluate import accuracy

DEVICE = "cpu"
NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "resnet56": {"arch": "resnet56"},
    "resnet18": {"arch": "resnet18_cifar", "stem": "conv-pool"},
}
AWARE, ALIGNED = "latency-aware", "global L2, aligned"
ARMS: Mapping[str, Mapping[str, Any]] = {
    "uniform": {"score": "l2", "scope": "layer", "align": "off"},
    "global L2": {"score": "l2", "scope": "global", "align": "off"},
    ALIGNED: {"score": "l2", "scope": "global"},
    AWARE: {"scope": "knapsack"},
}
WHOLE_STREAMS = {"score": "l2", "exclude": ["conv1", "layer?.0.conv2"], "min_fraction": 0.25}
HALF_OF_EACH = {"score": "l1", "min_fraction": 0.5}
QUARTER_OF_EACH = {"score": "l1", "min_fraction": 0.25}
AWARE_AT: Mapping[float, Sequence[Mapping[str, Any]]] = {
    1.5: [WHOLE_STREAMS, HALF_OF_EACH], 2.0: [HALF_OF_EACH, QUARTER_OF_EACH],
}  # fmt: skip
"""Options that a user would choose for these speed-ups: keep what many layers share while that is possible, and never
thin a layer too much. Where the latency cannot be reached with some options, the next ones are used."""
JUDGED = [arm for arm in ARMS if arm not in (AWARE, ALIGNED)]
NOISE = 0.97
CLEARLY = 1.01
"""Factor by which a file should be faster than wanted when its latency is asked for anew."""
CALM, LONGEST = 1.04, 5
"""Largest time of the dense file in a calm round, relative to the usual one; most repetitions of all rounds."""
TURN_S = 0.02
"""Seconds that a file is measured in each round, after as many seconds that only warm it up."""


@dataclass(frozen=True)
class Settings:
    """The whole study."""

    seeds: tuple[int, ...] = (0, 1, 2)
    images: int = 6_000
    """Training images for what starts from trained weights, and for all training after pruning."""
    scratch_images: int | None = None
    """Training images for a network that starts from nothing; all when None."""
    test: int | None = None
    """Test images; all when None."""
    adapt_epochs: int = 2
    """For trained weights to get used to the images."""
    scratch_epochs: int = 6
    epochs: int = 2
    """After pruning."""
    batch: int = 64
    adapt_lr: float = 0.01
    scratch_lr: float = 0.05
    lr: float = 0.02
    """Peak learning rate after pruning."""
    weight_decay: float = 5e-4
    rounds: int = 40
    speedups: tuple[float, ...] = (1.5, 2.0)
    tries: int = 5
    """Most requests for a latency until the file is as fast as wanted."""
    arms: tuple[str, ...] = tuple(ARMS)


FULL = Settings()
QUICK = Settings(
    seeds=(0,), images=3000, scratch_images=8_000, test=2000, scratch_epochs=4, rounds=16, speedups=(2.0,), tries=2,
    arms=(*JUDGED, AWARE),
)  # fmt: skip


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


@dataclass(frozen=True)
class Study:
    """One network's part of the study; every step of it is a cell."""

    settings: Settings
    cells: Cells
    data: Dataset
    scratch: Dataset
    """The images of a training from nothing."""
    network: str
    weights: Path | None
    dense_seconds: list[float] = field(default_factory=list)
    """The dense file in every round that was measured."""

    def cell(self, make: Callable[[Path], dict[str, Any]], *names: object) -> dict[str, Any]:
        """A cell of this network."""
        return self.cells.get(self._name(*names), make)

    def path(self, *names: object) -> Path:
        """The folder of a cell's files."""
        return self.cells.folder / self._name(*names)

    def _name(self, *names: object) -> str:
        return "-".join(map(str, (self.network, *names))).replace(" ", "_")

    # The network before.

    def base(self, folder: Path) -> dict[str, Any]:
        """Trains the network, or gets its weights used to the images."""
        s, given = self.settings, {"weights": str(self.weights)} if self.weights else {}
        declared = architecture({**NETWORKS[self.network], **given})
        subject = Subject.create(declared, len(self.data.classes), (SIDE, SIDE), seed=0)
        if given:
            subject = self._trained(subject, self.data, s.adapt_epochs, s.adapt_lr, 0, folder)
        else:
            subject = self._trained(subject, self.scratch, s.scratch_epochs, s.scratch_lr, 0, folder)
        subject.save(folder / "subject")
        return {"accuracy": self._accuracy(subject)}

    @cached_property
    def dense(self) -> Subject:
        """The network before pruning."""
        self.cell(self.base, "base")
        return Subject.load(self.path("base") / "subject")

    @cached_property
    def _dense_file(self) -> File:
        return File(self.dense, self.data, self.path("base") / "dense.onnx")

    # Plans.

    def pruned(self, options: Mapping[str, Any], seed: int, folder: Path) -> Subject:
        """Prunes the network by the product's own method."""
        step = methods.get("prune").parse({**options, "device": DEVICE, "latency_batch": 1})
        bench = AgentLatencies(Monitor(), self.cells.folder / f"{self.network}-latency")
        folder.mkdir(parents=True, exist_ok=True)
        start = Subject.load(self.path("base") / "subject")
        return step.apply(start, StepContext(LearningData.of(self.data), seed, folder, latencies=bench))

    def by_sparsity(self, arm: str, target: float, folder: Path) -> dict[str, Any]:
        """The least removal whose file is as fast as asked for."""
        low, high = 0, 95  # halved until its ends meet
        found: dict[str, Any] = {}
        while low < high:
            middle = (low + high) // 2
            subject = self.pruned({**ARMS[arm], "sparsity": middle / 100}, 0, folder)
            speedup = self._speedup(subject, folder)
            print(f"  {self.network} {arm}: {middle} % brings {speedup:.3f}", file=sys.stderr)
            if speedup >= target:
                found, high = {"speedup": speedup, "sparsity": middle / 100, **self._sizes(subject)}, middle
                subject.save(folder / "subject")
            else:
                low = middle + 1
        return found

    def by_latency(self, arm: str, target: float, folder: Path) -> dict[str, Any]:
        """A plan for the speed of the faster one of the other arms; as theirs, it must show in this measurement."""
        wanted = max(self.plan(other, target)["speedup"] for other in JUDGED)
        tried: list[tuple[float, Subject, float]] = []
        asked, slow, fast = wanted, 0.0, math.inf
        while len(tried) < self.settings.tries and not (tried and NOISE <= tried[-1][0] / wanted <= 1 / NOISE):
            subject = self._for_latency(arm, target, 1 / asked, folder)
            speedup = self._speedup(subject, folder)
            print(f"  {self.network} {arm}: {asked:.3f} asked brings {speedup:.3f}", file=sys.stderr)
            tried.append((speedup, subject, asked))
            slow, fast = (max(slow, asked), fast) if speedup < wanted else (slow, min(fast, asked))
            asked *= CLEARLY * wanted / speedup
            asked = asked if slow < asked < fast else (slow + fast) / 2
        enough = [one for one in tried if one[0] >= NOISE * wanted]
        speedup, subject, asked = (min if enough else max)(enough or tried, key=itemgetter(0))
        subject.save(folder / "subject")
        return {"speedup": speedup, "asked": asked, "wanted": wanted, **self._sizes(subject)}

    def _for_latency(self, arm: str, target: float, share: float, folder: Path) -> Subject:
        """By the first of the arm's ways that can reach the latency."""
        *first, last = AWARE_AT[target]
        for way in first:
            with contextlib.suppress(BudgetError):
                return self.pruned({**ARMS[arm], **way, "budget": {"latency": share}}, 0, folder)
        return self.pruned({**ARMS[arm], **last, "budget": {"latency": share}}, 0, folder)

    def plan(self, arm: str, target: float) -> dict[str, Any]:
        """A pruned network; the weights alone decide it, so it is the same for all seeds."""
        make = self.by_latency if arm == AWARE else self.by_sparsity
        return self.cell(partial(make, arm, target), target, arm, "plan")

    def _planned(self, arm: str, target: float) -> Subject:
        self.plan(arm, target)
        return Subject.load(self.path(target, arm, "plan") / "subject")

    def _speedup(self, subject: Subject, folder: Path) -> float:
        """By the rounds in which the dense file was as fast as usual, or nearly, once there are enough of them."""
        file = File(subject, self.data, folder / "pruned.onnx")
        samples: dict[str, list[float]] = {"dense": [], "pruned": []}
        calm: list[int] = []
        for _ in range(LONGEST):
            more = interleaved({"dense": self._dense_file.seconds, "pruned": file.seconds}, self.settings.rounds)
            samples = {name: [*own, *more[name]] for name, own in samples.items()}
            self.dense_seconds.extend(more["dense"])
            usual = sorted(self.dense_seconds)[len(self.dense_seconds) // 10]
            calm = [number for number, seconds in enumerate(samples["dense"]) if seconds <= CALM * usual]
            if len(calm) >= self.settings.rounds // 2:
                break
        dense, pruned = ([own[number] for number in calm] if calm else own for own in samples.values())
        return paired_ratio(dense, pruned)

    def _sizes(self, subject: Subject) -> dict[str, float]:
        size, dense = (count(one.module, one.input_shape) for one in (subject, self.dense))
        return {"params": size.params / dense.params, "macs": size.macs / dense.macs}

    # Training.

    def tuned(self, arm: str, target: float, seed: int) -> dict[str, Any]:
        """The accuracy of a pruned network after its training."""
        return self.cell(partial(self._tuned, arm, target, seed), target, arm, "tuned", seed)

    def _tuned(self, arm: str, target: float, seed: int, folder: Path) -> dict[str, Any]:
        s = self.settings
        subject = self._trained(self._planned(arm, target), self.data, s.epochs, s.lr, seed, folder)
        return {"accuracy": self._accuracy(subject)}

    def _trained(self, subject: Subject, data: Dataset, epochs: int, lr: float, seed: int, folder: Path) -> Subject:
        s = self.settings
        step = methods.get("train").parse(
            {"epochs": epochs, "lr": lr, "batch": s.batch, "weight_decay": s.weight_decay, "precision": "bf16",
             "augment": "crop-flip", "validate_every": epochs}
        )  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        subject = step.apply(subject, StepContext(LearningData.of(data), seed, folder))
        discard(folder)
        return subject

    def _accuracy(self, subject: Subject) -> float:
        return 100 * accuracy(subject.module, self.data.test, self.data.preprocessing)


@dataclass(frozen=True)
class Arm:
    """One way of pruning in one cell of the table."""

    network: str
    target: float
    arm: str
    plan: Mapping[str, Any]
    accuracies: Sequence[float]

    def row(self) -> list[object]:
        """The cells of the table."""
        values = ", ".join(f"{value:.2f}" for value in self.accuracies)
        sizes = [self.plan[key] for key in ("params", "macs", "speedup")]
        return [self.network, f"{self.target} x", self.arm, *sizes, mean_and_spread(self.accuracies, 2), values]


def arms_of(study: Study, target: float) -> list[Arm]:
    """All ways of one cell."""
    return [
        Arm(study.network, target, arm, study.plan(arm, target),
            [study.tuned(arm, target, seed)["accuracy"] for seed in study.settings.seeds])
        for arm in study.settings.arms
    ]  # fmt: skip


def main() -> int:
    """Runs the study, or what is left of it."""
    parser = study_arguments(__doc__)
    parser.add_argument("--weights", type=Path, metavar="FILE", help="trained weights of ResNet-56; else from scratch")
    parser.add_argument("--only", nargs="+", choices=[*NETWORKS], help="these networks alone, for the study to read")
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = QUICK if options.quick else FULL
    every = cifar10(options.data)
    data = fewer(every, settings.images, settings.test)
    scratch = fewer(every, settings.scratch_images, settings.test)
    known = [asdict(settings), data.fingerprint, sha256(options.weights) if options.weights else None]
    cells = Cells(options.out, "latency-aware", known)
    rows: list[list[object]] = []
    figures: dict[str, Any] = {}
    goals: list[Goal] = []
    for network in options.only or NETWORKS:
        study = Study(settings, cells, data, scratch, network, options.weights if network == "resnet56" else None)
        rows.append([network, "1 x", "dense", 1.0, 1.0, 1.0, f"{study.cell(study.base, 'base')['accuracy']:.2f}", ""])
        for target in settings.speedups:
            found = arms_of(study, target)
            rows += [one.row() for one in found]
            mean = {one.arm: statistics.mean(one.accuracies) for one in found}
            speed = {one.arm: one.plan["speedup"] for one in found}
            name = f"{network}_{target}"
            figures[f"{name}_margin"] = mean[AWARE] - max(mean[arm] for arm in JUDGED)
            if ALIGNED in mean:
                figures[f"{name}_margin_over_aligned"] = mean[AWARE] - mean[ALIGNED]
            figures[f"{name}_speed"] = speed[AWARE] / max(speed[arm] for arm in JUDGED)
            goals += [Goal(f"{name}_margin", at_least=0.0), Goal(f"{name}_speed", at_least=NOISE)]
    print(table(["network", "target", "arm", "params kept", "MACs kept", "speed-up", "accuracy %", "by seed"], rows))
    return finish("latency_aware", figures, goals)


if __name__ == "__main__":
    raise SystemExit(main())
