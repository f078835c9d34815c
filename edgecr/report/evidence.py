"""Finds in a result the figures that a gate is about."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from edgecr.estimate import Estimate
from edgecr.report.figures import counted
from edgecr.report.quantities import Kind, Quantity
from edgecr.report.result import BASELINE, CANDIDATE, LatencyRow, Result


@dataclass(frozen=True)
class Evidence:
    """One figure to compare with a limit, where it was taken, and why it is missing if it is."""

    place: str
    estimate: Estimate | None
    missing: str = ""


def evidence_for(
    quantity: Quantity, limit: str, result: Result, device: str | None = None, batch: int | None = None
) -> list[Evidence]:
    """All figures that a limit is about; at least one, be it a missing one."""
    if quantity.kind is Kind.ACCURACY:
        found = [_accuracy(quantity, limit, result)]
    elif quantity.kind is Kind.COUNT:
        found = [_count(quantity, limit, result)]
    elif quantity.kind is Kind.BUDGET:
        found = list(_budgets(result))
    else:
        found = list(_timings(quantity, limit, result, device, batch))
    return [_finite(each) for each in found]


def _finite(evidence: Evidence) -> Evidence:
    estimate = evidence.estimate
    if estimate is None or math.isfinite(estimate.value):
        return evidence
    return Evidence(evidence.place, None, "the figure is not a finite number")


def _accuracy(quantity: Quantity, limit: str, result: Result) -> Evidence:
    row = result.accuracy_of(quantity.suite, quantity.condition)
    if row is None:
        asked = quantity.suite or quantity.condition
        return Evidence("", None, f"the accuracy ({asked}) was not evaluated")
    estimate = row.candidate if limit == "min" else _loss(row.delta)
    return Evidence("", estimate, "the candidate was not evaluated" if limit == "min" else
                    "baseline and candidate were not both evaluated")


def _loss(delta: Estimate | None) -> Estimate | None:
    if delta is None:
        return None
    low = None if delta.high is None else -delta.high
    high = None if delta.low is None else -delta.low
    return Estimate(-delta.value, low, high, delta.confidence, delta.unit, delta.samples, delta.note)


def _count(quantity: Quantity, limit: str, result: Result) -> Evidence:
    candidate = _counted(quantity, result, CANDIDATE)
    if candidate is None:
        return Evidence("", None, "the candidate's figure is missing")
    if limit == "max":
        return Evidence("", counted(candidate))
    baseline = _counted(quantity, result, BASELINE)
    ratio = counted(candidate / baseline) if baseline else None
    return Evidence("", ratio, "the baseline's figure is missing")


def _budgets(result: Result) -> Iterator[Evidence]:
    """What remains over what may remain, of each figure that a step was asked for."""
    asked = [(row.name, figure, pair) for row in result.steps for figure, pair in row.budgets.items()]
    for step, figure, (allowed, reached) in asked:
        yield Evidence(f"{figure} after {step}", counted(reached / max(1, allowed)))
    if not asked:
        yield Evidence("", None, "no step was given a sparsity or a budget")


def _counted(quantity: Quantity, result: Result, role: str) -> float | None:
    model = result.model(role)
    if model is None:
        return None
    size = None if model.size_bytes is None else model.size_bytes / 1e6
    return {"size": size, "params": model.parameters, "macs": model.macs}[quantity.field]


def _timings(
    quantity: Quantity, limit: str, result: Result, device: str | None, batch: int | None
) -> Iterator[Evidence]:
    rows = [row for row in result.latency
            if device in (None, row.device) and (batch is None or row.batch in (None, batch))]
    if not rows:
        asked = place(device or "any device", batch)
        yield Evidence(asked, None, f"nothing was measured on {asked}")
    for row in rows:
        ratio = limit == "ratio"
        estimate = ratio_of(row, quantity.field) if ratio else timing_of(row, CANDIDATE, quantity.field)
        missing = row.error or _absent(row, quantity.field, ratio)
        yield Evidence(place(row.device, row.batch), estimate, missing)


def _absent(row: LatencyRow, field: str, ratio: bool) -> str:
    """Why a figure is missing, in the measurer's words."""
    roles = (BASELINE, CANDIDATE) if ratio else (CANDIDATE,)
    reasons = (row.arms[role].missing.get(field) for role in roles if role in row.arms)
    return next((reason for reason in reasons if reason), "it was not measured")


def place(device: str, batch: int | None) -> str:
    """Where something was measured, in words."""
    return device if batch is None else f"{device}, batch {batch}"


def timing_of(row: LatencyRow, role: str, field: str) -> Estimate | None:
    """A role's figure on a device, if it has one."""
    arm = row.arms.get(role)
    found: Estimate | None = getattr(arm, field) if arm else None
    return found


def ratio_of(row: LatencyRow, field: str) -> Estimate | None:
    """Candidate over baseline: the paired ratio, else the bare quotient of both figures."""
    if field in row.ratios:
        return row.ratios[field]
    before, after = timing_of(row, BASELINE, field), timing_of(row, CANDIDATE, field)
    if before is None or after is None or not before.value:
        return None
    return Estimate(after.value / before.value, samples=after.samples, note="quotient, not paired")
