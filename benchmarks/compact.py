"""Compact files against the entropy of what they hold, and against plain files in load time and latency.

A ResNet-18 with random weights has the smallest 90 and 95 % of each layer set to zero, and another one has the signs of
its weights, with the smaller half of them set to zero. The bound is the entropy of the places of zeros and of signs,
with 32 bits for each value, magnitude of a channel and bias. Plain and compact file take turns: the processor time to
open a session, and that of one image of 224 pixels, with one thread. Goals: 1.15 of the bound for sparse weights,
1.2 for signs, 3 times the plain file's time to load, the same latency and the same answers bit by bit.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from _common import Goal, arguments, finish, interleaved, paired_ratio, table, warm_seconds
from torch import nn

from edgecr.data.base import Preprocessing
from edgecr.exporters.onnx.compact import compact, unpack
from edgecr.exporters.onnx.count import layer_weights
from edgecr.exporters.onnx.declaration import PLAIN
from edgecr.exporters.onnx.write import write
from edgecr.models import architecture
from edgecr.predictors.onnx_predictor import open_session
from edgecr.subject import Subject

SIDE = 224
TURN_S = 0.1
PREPROCESSING = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (SIDE, SIDE))
CASES = {"90 % zeros": (0.9, False), "95 % zeros": (0.95, False), "signs, 50 % zeros": (0.5, True)}
WITHIN = {False: 1.15, True: 1.2}


def network(zeros: float, signs: bool) -> Subject:
    """A ResNet-18 without its smallest weights; of signs the others have one magnitude in each output channel."""
    subject = Subject.create(architecture({"arch": "torchvision:resnet18"}), 1000, (SIDE, SIDE), seed=0)
    for module in subject.module.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            with torch.no_grad():
                weight = module.weight.flatten(1)
                least = weight.abs().flatten().kthvalue(round(zeros * weight.numel())).values
                kept = weight.abs() > least
                if signs:
                    weight.copy_(weight.sign() * weight.abs().mean(1, keepdim=True))
                weight *= kept
    return subject


def bound(file: Path, signs: bool) -> float:
    """The bytes that the weights and biases of a plain file cannot do without."""
    bits, weights = 0.0, list(layer_weights(file))
    for weight in weights:
        share = np.count_nonzero(weight) / weight.size
        bits += weight.size * (entropy(share) + share * (1 if signs else 32)) + (32 * len(weight) if signs else 0)
    biases = sum(len(weight) for weight in weights)
    return bits / 8 + 4 * biases


def entropy(share: float) -> float:
    """Bits to tell for one weight that it is not zero, which so large a share of them is."""
    return -sum(p * math.log2(p) for p in (share, 1 - share) if 0 < p < 1)


def load(file: Path) -> float:
    """Seconds of this thread to open a session."""
    begin = time.thread_time()
    open_session(file, threads=1)
    return time.thread_time() - begin


def runner(file: Path) -> tuple[Callable[[], float], np.ndarray]:
    """The processor time of one image, and the answer to it."""
    session = open_session(file, threads=1)
    image = np.random.default_rng(1).standard_normal((1, 3, SIDE, SIDE), dtype=np.float32)
    answer: np.ndarray = session.run(None, {"input": image})[0]
    return lambda: warm_seconds(lambda: session.run(None, {"input": image}), TURN_S), answer


def main() -> int:
    """Prints the table and judges the goals."""
    rounds = 7 if arguments(__doc__).parse_args().quick else 21
    rows, figures, goals = list[list[object]](), dict[str, object](), list[Goal]()
    for name, (zeros, signs) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            plain, small, again = (Path(folder) / f"{each}.onnx" for each in ("plain", "compact", "again"))
            write(network(zeros, signs), PLAIN, PREPROCESSING, plain)
            small.write_bytes(plain.read_bytes())
            compact(small)
            unpack(small, again)
            loads = interleaved({file.stem: (lambda file=file: load(file)) for file in (plain, small)}, rounds)
            runners = {file.stem: runner(file) for file in (plain, small)}
            samples = interleaved({side: job for side, (job, _) in runners.items()}, rounds)
            same = np.array_equal(*(answer for _, answer in runners.values()))
            same = same and again.read_bytes() == plain.read_bytes()
            size, whole, least = small.stat().st_size, plain.stat().st_size, bound(plain, signs)
        loading, speed = (paired_ratio(each["compact"], each["plain"]) for each in (loads, samples))
        equal = "yes" if same else "NO"
        rows.append([name, whole / 1e6, size / 1e6, whole / size, size / least, loading, speed, equal])
        told = {"over the bound": size / least, "load": loading, "latency": speed, "equal": float(same)}
        figures |= {f"{name}: {figure}": value for figure, value in told.items()}
        goals += [
            Goal(f"{name}: over the bound", at_most=WITHIN[signs]),
            Goal(f"{name}: load", at_most=3.0),
            Goal(f"{name}: latency", at_most=1.01),
            Goal(f"{name}: equal", at_least=1.0),
        ]
    header = ["ResNet-18", "plain MB", "compact MB", "smaller", "size / bound", "load", "latency", "equal bits"]
    print(table(header, rows))
    return finish("compact", figures, goals)


if __name__ == "__main__":
    raise SystemExit(main())
