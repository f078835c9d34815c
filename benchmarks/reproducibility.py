"""Repeats one measurement in fresh runs while another program keeps a core busy, and tells how far the results spread.

ResNet-18's convolutions are measured beside a narrower copy and beside themselves. The goals: the paired ratio of the
two models spreads by 10 % at most between runs (largest / smallest - 1), and the interval of a model against itself
covers 1 in 9 of 10 runs. Beside them stands the same ratio as it comes from two bare loops, one after the other.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from _common import Goal, arguments, finish, table
from agent_overhead import WIDTHS, bare_process, write_model

from edgecr.core.estimate import Estimate
from edgecr.runners.base import Arm, MeasurePlan, load_device, runner_for
from edgecr.runners.device import Protocol
from edgecr.runners.measurement.summary import compare

NARROW = tuple(width * 7 // 8 for width in WIDTHS)


@contextmanager
def busy_core() -> Iterator[None]:
    """Another program that never rests."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as spinning:
        try:
            yield
        finally:
            spinning.kill()


def paired(files: dict[str, Path], protocol: Protocol, seed: int) -> tuple[Estimate, Estimate]:
    """The ratio of the narrow model, and that of the whole one to itself, from one fresh measurement."""
    device = load_device("cpu").model_copy(update={"protocol": protocol})
    arms = (
        Arm("whole", files["whole"]),
        Arm("narrow", files["narrow"]),
        Arm("itself", files["whole"]),
    )
    result = runner_for(device).measure(MeasurePlan(arms, seed=seed))
    if result.error:
        raise SystemExit(result.error)
    narrow, itself = (compare(result, "whole", label)[0].ratio for label in ("narrow", "itself"))
    if narrow is None or itself is None:
        raise SystemExit("the models were not measured in the same rounds")
    return narrow, itself


def naive(files: dict[str, Path], seconds: float, size: int) -> float:
    """The same ratio from two bare loops in processes of their own."""
    whole, narrow = (bare_process(files[name], seconds, size)[0] for name in ("whole", "narrow"))
    return narrow / whole


def spread(values: Sequence[float]) -> float:
    """The largest value over the smallest, less 1."""
    return max(values) / min(values) - 1


def covers_one(ratio: Estimate) -> bool:
    """True if a model's ratio to itself may be 1."""
    return ratio.low is not None and ratio.high is not None and ratio.low <= 1 <= ratio.high


def main() -> int:
    """Runs the benchmark."""
    options = arguments(__doc__).parse_args()
    repeats, size, seconds = (3, 32, 1.0) if options.quick else (10, 64, 3.0)
    extent = {"launches": 3, "rounds": 10, "round_s": 0.1} if options.quick else {"launches": 5, "rounds": 20}
    protocol = Protocol.parse({**extent, "warmup": {"window_s": 0.2, "max_s": 3.0}})
    found, bare = list[tuple[Estimate, Estimate]](), list[float]()
    with tempfile.TemporaryDirectory() as folder, busy_core():
        files = {name: Path(folder) / f"{name}.onnx" for name in ("whole", "narrow")}
        for name, widths in (("whole", WIDTHS), ("narrow", NARROW)):
            write_model(files[name], size, widths)
        for number in range(repeats):
            found.append(paired(files, protocol, number))
            bare.append(naive(files, seconds, size))
    rows = [
        [number + 1, narrow.value, f"{itself.low:.3f} to {itself.high:.3f}", loop]
        for number, ((narrow, itself), loop) in enumerate(zip(found, bare))
    ]
    print(table(["run", "narrow / whole, paired", "whole / itself, interval", "narrow / whole, two loops"], rows))
    figures = {
        "runs": repeats,
        "paired_spread": spread([narrow.value for narrow, _ in found]),
        "itself_covered": sum(covers_one(itself) for _, itself in found) / repeats,
        "naive_spread": spread(bare),
    }
    print(f"Spread between runs: paired {figures['paired_spread']:.1%}, two loops {figures['naive_spread']:.1%}.")
    return finish(
        "reproducibility", figures, [Goal("paired_spread", at_most=0.10), Goal("itself_covered", at_least=0.9)]
    )


if __name__ == "__main__":
    sys.exit(main())
