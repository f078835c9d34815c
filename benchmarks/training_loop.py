"""Does the whole training loop keep the pace of its bare arithmetic?

Compares images/s of the loop (data order, augmentation, schedule, progress, loss guard, checkpoints)
with forward + backward + update on one batch that lies ready: same precision, same memory order, taking
turns in one process.

    python benchmarks/training_loop.py [--quick] [--model resnet20]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from _common import Goal, arguments, finish, interleaved, paired_ratio, table
from _random_images import BATCH, CLASSES, SIZE, Stopwatch, dataset
from torch.nn import functional

from edgecr.data.base import Dataset
from edgecr.data.views import LearningData
from edgecr.models import architecture, build
from edgecr.training import optimisers
from edgecr.training.context import StepContext
from edgecr.training.inputs import Inputs
from edgecr.training.loop import fit
from edgecr.training.losses import CrossEntropy
from edgecr.training.options import TrainOptions
from edgecr.training.precision import resolve

GOAL = 0.9
MODELS = {"resnet20": (8, 24), "resnet18_cifar": (2, 6)}
"""Updates in one sample of each model: quick, full."""
ROUNDS = (3, 9)


def loop_pace(name: str, data: Dataset) -> float:
    """Images per second of one epoch of the real loop, counted from the end of its first update."""
    watch = Stopwatch()
    module = build(architecture({"arch": name}), CLASSES)
    with tempfile.TemporaryDirectory() as folder:
        context = StepContext(LearningData.of(data), 0, Path(folder))
        fit(module, TrainOptions(epochs=1, batch=BATCH), CrossEntropy(), context, [watch])
    return watch.pace


def bare_pace(name: str, data: Dataset) -> float:
    """Images per second of forward, backward and update on one batch, without any of the loop's code."""
    module = build(architecture({"arch": name}), CLASSES).train()
    module.to(memory_format=torch.channels_last)
    optimiser = optimisers.build(module, TrainOptions())
    inputs = Inputs(data.preprocessing, torch.device("cpu")).normalise(data.train.images(range(BATCH)))
    labels = torch.as_tensor(data.train.labels[:BATCH])
    short = resolve("auto", "cpu") == "bf16"
    moments = []
    for _ in range(len(data.train) // BATCH):
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=short):
            logits = module(inputs)
        functional.cross_entropy(logits.float(), labels).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        moments.append(time.perf_counter())
    return BATCH * (len(moments) - 1) / (moments[-1] - moments[0])


def compare(name: str, updates: int, rounds: int) -> dict[str, float]:
    """Both paces and their ratio."""
    data = dataset(updates)
    jobs: dict[str, Callable[[], float]] = {
        "loop": lambda: loop_pace(name, data),
        "bare": lambda: bare_pace(name, data),
    }
    interleaved(jobs, 1)  # warm-up: the first round compiles kernels
    samples = interleaved(jobs, rounds)
    medians = {job: statistics.median(values) for job, values in samples.items()}
    return medians | {"ratio": paired_ratio(samples["loop"], samples["bare"])}


def main() -> int:
    """Measures every model and prints the verdict."""
    parser = arguments(__doc__)
    parser.add_argument("--model", choices=list(MODELS), action="append", help="only this one")
    asked = parser.parse_args()
    full = not asked.quick
    found = {name: compare(name, MODELS[name][full], ROUNDS[full]) for name in asked.model or MODELS}
    print(f"precision {resolve('auto', 'cpu')}, {torch.get_num_threads()} threads, batch {BATCH}, {SIZE} px")
    rows = [[name, f["loop"], f["bare"], f["ratio"]] for name, f in found.items()]
    print(table(["model", "loop images/s", "bare images/s", "ratio"], rows))
    figures = {f"{name}_{key}": round(value, 4) for name, f in found.items() for key, value in f.items()}
    return finish("training_loop", figures, [Goal(f"{name}_ratio", at_least=GOAL) for name in found])


if __name__ == "__main__":
    sys.exit(main())
