"""Functions that every benchmark shares: the command line, the table, the last JSON line and the exit code.

A benchmark prints a table for people, then one JSON line ``{"bench", "figures", "goals", "met"}`` for
programs, and exits with 0 when every goal is met, 3 when one is not. Goals are ratios of one run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MISSED = 3


@dataclass(frozen=True)
class Goal:
    """One figure and the bound it must keep: ``at_least`` or ``at_most``."""

    figure: str
    at_least: float | None = None
    at_most: float | None = None

    def met(self, value: float) -> bool:
        """Returns True if the value keeps the bound (nan never does)."""
        above = self.at_least is None or value >= self.at_least
        return above and (self.at_most is None or value <= self.at_most) and value == value

    def plain(self) -> dict[str, Any]:
        """The bound as plain JSON values."""
        return {k: v for k, v in vars(self).items() if v is not None}


def arguments(purpose: str | None, *, data: bool = False) -> argparse.ArgumentParser:
    """The options every benchmark has; a benchmark may add its own before parsing."""
    parser = argparse.ArgumentParser(description=purpose, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, smaller models: minutes")
    parser.add_argument("--data", type=Path, metavar="DIR", required=data, help="folder of images to work on")
    return parser


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows of text and numbers under a header, numbers to the right, as plain text."""
    texts = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(header), *texts]) for i in range(len(header))]
    lines = ["  ".join(title.ljust(width) for title, width in zip(header, widths))]
    lines.append("  ".join("-" * width for width in widths))
    for row, line in zip(rows, texts):
        cells = [
            text.ljust(width) if isinstance(value, str) else text.rjust(width)
            for value, text, width in zip(row, line, widths)
        ]
        lines.append("  ".join(cells))
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: object) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def interleaved(jobs: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Runs all jobs in turn, ``rounds`` times, so that a busy moment of the machine hits all alike."""
    samples: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(rounds):
        order = list(jobs) if number % 2 == 0 else list(jobs)[::-1]
        for name in order:
            samples[name].append(jobs[name]())
    return samples


def warm_seconds(call: Callable[[], object], turn_s: float, calls: int = 3) -> float:
    """Processor time of this thread for one call: the median of a turn, after as long a turn that only warms up.

    Files that take turns empty each other's caches; alone each would find them warm. That takes a time rather than
    a number of calls, so a turn lasts ``turn_s``, and at least so many calls.
    """
    _turn(call, turn_s, 1)
    return statistics.median(_turn(call, turn_s, calls))


def _turn(call: Callable[[], object], turn_s: float, calls: int) -> list[float]:
    end, found = time.perf_counter() + turn_s, list[float]()
    while len(found) < calls or time.perf_counter() < end:
        found.append(_thread_seconds(call))
    return found


def _thread_seconds(call: Callable[[], object]) -> float:
    begin = time.thread_time()
    call()
    return time.thread_time() - begin


def paired_ratio(samples: Sequence[float], reference: Sequence[float]) -> float:
    """The median of the ratios of samples taken in the same round."""
    return statistics.median(value / base for value, base in zip(samples, reference))


def finish(bench: str, figures: Mapping[str, Any], goals: Sequence[Goal]) -> int:
    """Prints the verdict on each goal and the JSON line; returns the exit code."""
    met = True
    for goal in goals:
        value = float(figures[goal.figure])
        good = goal.met(value)
        met = met and good
        bound = f"at least {goal.at_least}" if goal.at_most is None else f"at most {goal.at_most}"
        print(f"{'met   ' if good else 'MISSED'}  {goal.figure} = {value:.4g} ({bound})")
    line = {"bench": bench, "figures": dict(figures), "goals": [goal.plain() for goal in goals], "met": met}
    print(json.dumps(line))
    return 0 if met else MISSED
