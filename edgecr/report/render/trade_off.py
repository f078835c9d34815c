"""Which models a trade-off plot shows, and where: all under the same condition, on the same device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from edgecr.core.estimate import Estimate
from edgecr.report.gates.evidence import place, timing_of
from edgecr.report.headline import ROLES, first_measured
from edgecr.report.numbers import counted
from edgecr.report.render.plots import TradeOffPoint
from edgecr.report.result import BASELINE, MEAN, Result
from edgecr.robustness.suites import CLEAN

Cost = Callable[[Result, str], "Estimate | None"]


def size_points(results: Sequence[Result]) -> list[TradeOffPoint]:
    """Accuracy against file size."""
    return list(_spots(results, _size))


def latency_points(results: Sequence[Result]) -> tuple[str, list[TradeOffPoint]]:
    """Accuracy against the median latency on the first device and batch measured, and their name."""
    first = next((row for result in results if (row := first_measured(result))), None)
    if first is None:
        return "", []
    where = (first.device, first.batch)

    def latency(result: Result, role: str) -> Estimate | None:
        rows = (row for row in result.latency if (row.device, row.batch) == where)
        return next((timing_of(row, role, "p50") for row in rows), None)

    return place(*where), list(_spots(results, latency))


def common_condition(results: Sequence[Result]) -> tuple[str | None, str]:
    """The first suite whose mean every result has, else the clean images."""
    shared = (
        suite
        for suite in (results[0].suites if results else [])
        if all(result.accuracy_of(suite, MEAN) for result in results)
    )
    suite = next(shared, None)
    return (suite, MEAN) if suite else (None, CLEAN)


def _spots(results: Sequence[Result], cost: Cost) -> Iterator[TradeOffPoint]:
    suite, condition = common_condition(results)
    for result in results:
        row = result.accuracy_of(suite, condition)
        for role in ROLES:
            x, y = cost(result, role), getattr(row, role, None)
            if x is not None and y is not None:
                yield TradeOffPoint(_name(results, result, role), role, x, y)


def _size(result: Result, role: str) -> Estimate | None:
    model = result.model(role)
    return counted(model.size_bytes / 1e6) if model and model.size_bytes else None


def _name(results: Sequence[Result], result: Result, role: str) -> str:
    """Among several runs only candidates are named; their baselines mostly coincide."""
    if len(results) == 1:
        return role
    return "" if role == BASELINE else result.name
