"""The models in a trade-off plot and their coordinates, all under the same condition and on the same device."""

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
Named = Sequence[tuple[str, Result]]
"""Results of one target each, with their names."""


def size_points(results: Named) -> list[TradeOffPoint]:
    """Accuracy against file size."""
    return list(_spots(results, _size))


def latency_points(results: Named) -> tuple[str, list[TradeOffPoint]]:
    """Accuracy against the median latency on the first device and batch measured, and their name."""
    first = next((row for _, result in results if (row := first_measured(result))), None)
    if first is None:
        return "", []
    where = (first.device, first.batch)

    def latency(result: Result, role: str) -> Estimate | None:
        rows = (row for row in result.latency if (row.device, row.batch) == where)
        return next((timing_of(row, role, "p50") for row in rows), None)

    return place(*where), list(_spots(results, latency))


def common_condition(results: Named) -> tuple[str | None, str]:
    """The first suite whose mean every result has, else the clean images."""
    shared = (
        suite
        for suite in (results[0][1].suites if results else [])
        if all(result.accuracy_of(suite, MEAN) for _, result in results)
    )
    suite = next(shared, None)
    return (suite, MEAN) if suite else (None, CLEAN)


def _spots(results: Named, cost: Cost) -> Iterator[TradeOffPoint]:
    suite, condition = common_condition(results)
    for name, result in results:
        row = result.accuracy_of(suite, condition)
        for role in ROLES:
            x, y = cost(result, role), getattr(row, role, None)
            if x is not None and y is not None:
                yield TradeOffPoint(_name(name, role, len(results)), role, x, y)


def _size(result: Result, role: str) -> Estimate | None:
    model = result.model(role)
    return counted(model.size_bytes / 1e6) if model and model.size_bytes else None


def _name(name: str, role: str, models: int) -> str:
    """Among several models only candidates are named; their baselines mostly coincide."""
    if models == 1:
        return role
    return "" if role == BASELINE else name
