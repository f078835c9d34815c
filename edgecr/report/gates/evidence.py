"""Finds in a result the figures that a gate is about."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from edgecr.core.absent import UNASKED
from edgecr.core.estimate import Estimate
from edgecr.report.gates.quantities import Kind, Quantity
from edgecr.report.numbers import PERCENT, counted, figure, with_unit
from edgecr.report.result import BASELINE, CANDIDATE, FAILED, NOT_VERIFIED, AccuracyRow, LatencyRow, Result
from edgecr.robustness.conditions import CLEAN


@dataclass(frozen=True)
class Evidence:
    """One figure to compare with a limit, where it was taken, and why it is missing if it is."""

    place: str
    estimate: Estimate | None
    missing: str = ""
    files: Sequence[str] = ()
    """Files of the run that the figure rests on."""
    partial: str = ""
    """Reason why the measurement behind the figure is not complete."""
    blind: float | None = None
    """The same figure of answers that were given without a look at the images; a limit that it holds proves nothing."""


def evidence_for(
    quantity: Quantity,
    limit: str,
    result: Result,
    device: str | None = None,
    batch: int | None = None,
    *,
    allow_partial: bool = False,
) -> list[Evidence]:
    """All figures that a limit is about; at least one, be it a missing one.

    A figure that rests on a changed file, or on a measurement that is not complete, is a missing one.
    """
    if quantity.kind is Kind.ACCURACY:
        found = [_accuracy(quantity, limit, row, result) for row in _answered(quantity, result)]
    elif quantity.kind is Kind.AGREEMENT:
        found = [_agreement(quantity, row) for row in _answered(quantity, result)]
    elif quantity.kind is Kind.COUNT:
        found = [_count(quantity, limit, result)]
    elif quantity.kind is Kind.BUDGET:
        found = list(_budgets(result))
    else:
        found = list(_timings(quantity, limit, result, device, batch))
    whole = [each if allow_partial else _complete(each) for each in found]
    return [_sound(_finite(each), result) for each in whole]


def _finite(evidence: Evidence) -> Evidence:
    estimate = evidence.estimate
    if estimate is None or math.isfinite(estimate.value):
        return evidence
    return replace(evidence, estimate=None, missing="the figure is not a finite number")


def _complete(evidence: Evidence) -> Evidence:
    if not evidence.partial:
        return evidence
    why = f"the measurement is partial ({evidence.partial}): measure again, or set measure.allow_partial"
    return replace(evidence, estimate=None, missing=why)


def _sound(evidence: Evidence, result: Result) -> Evidence:
    wrong = unsound_words(result, evidence.files)
    return replace(evidence, estimate=None, missing=wrong) if wrong else evidence


NAMED = 3
"""Files that are worth their names in one sentence."""


def unsound_words(result: Result, *evidence: Sequence[str]) -> str:
    """The problem of the first file that is not as the run wrote it, and the names of others; empty if none."""
    first, *others = result.unsound(*evidence) or [""]
    if not first:
        return ""
    named, more = ", ".join(others[:NAMED]), f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
    problem = result.unverified[first]
    said = problem.removeprefix(FAILED) if problem.startswith(FAILED) else f"{first} {problem}"
    return said + (f"; also not verified: {named}{more}" if others else "")


def not_verified(result: Result, *evidence: Sequence[str]) -> str:
    """The first of some rows' files that is not what the run wrote, where a figure would stand; empty for none."""
    wrong = result.unsound(*evidence)
    return f"{NOT_VERIFIED}: {wrong[0]}" if wrong else ""


def _answered(quantity: Quantity, result: Result) -> list[AccuracyRow | None]:
    """The row of each device whose answers are told apart; None where nobody was asked."""
    return [*result.accuracies_of(quantity.suite, quantity.condition)] or [None]


def _accuracy(quantity: Quantity, limit: str, row: AccuracyRow | None, result: Result) -> Evidence:
    if row is None:
        asked = quantity.suite or quantity.condition
        return Evidence("", None, f"the accuracy ({asked}) was not evaluated")
    clean = (each for each in result.accuracies_of(row.suite, CLEAN) if each.device == row.device)
    if blind := by_chance(next(clean, None)):
        return Evidence(row.device, None, blind, row.evidence)
    estimate = row.candidate if limit == "min" else _loss(row.delta)
    who = "the candidate was not" if limit == "min" else "baseline and candidate were not both"
    return Evidence(row.device, estimate, row.error or f"{who} evaluated", row.evidence)


def by_chance(clean: AccuracyRow | None) -> str:
    """The reason to believe no accuracy at all, empty if there is none: the baseline does not know the classes.

    What does not know them loses nothing when it is compressed, so every limit on a loss would hold.
    """
    found = _not_above_chance(clean)
    if not found or _few(found):
        return ""
    return (
        f"{_beside_chance(found)}, so it says nothing about the candidate: "
        "check mean, std, the order of the classes and the baseline itself"
    )


def perhaps_by_chance(clean: AccuracyRow | None) -> str:
    """The same as a doubt, where so few images were shown that even a good baseline might look like that."""
    found = _not_above_chance(clean)
    return f"{_beside_chance(found)}; more test images could settle it" if found and _few(found) else ""


def ruined(clean: AccuracyRow | None) -> str:
    """The warning that a candidate lost all that its baseline knew; empty where it did not, or images are too few."""
    if clean is None or clean.baseline is None or _not_above_chance(clean):
        return ""
    found = _at_chance(clean.candidate, clean.chance)
    if not found or _few(found):
        return ""
    return f"{_beside_chance(found, CANDIDATE)}: compression has ruined this model"


def _not_above_chance(clean: AccuracyRow | None) -> tuple[Estimate, float, float] | None:
    """The baseline's clean accuracy, its interval's width and chance, if chance is within the interval or above it."""
    return None if clean is None else _at_chance(clean.baseline, clean.chance)


def _at_chance(accuracy: Estimate | None, chance: float | None) -> tuple[Estimate, float, float] | None:
    """An accuracy, its interval's width and chance, if chance is within the interval or above it."""
    if accuracy is None or chance is None:
        return None
    low, high = accuracy.low, accuracy.high
    if low is None or high is None or low > chance:
        return None
    return accuracy, high - low, chance


def _few(found: tuple[Estimate, float, float]) -> bool:
    """True if the interval is wider than all that is above chance."""
    _, width, chance = found
    return width >= 1 - chance


def _beside_chance(found: tuple[Estimate, float, float], role: str = BASELINE) -> str:
    accuracy, _, chance = found
    return (
        f"the {role}'s clean accuracy, {figure(accuracy, PERCENT)}, is not shown to be above chance "
        f"({with_unit(chance, PERCENT)}, always answering the largest class)"
    )


def _agreement(quantity: Quantity, row: AccuracyRow | None) -> Evidence:
    if row is None:
        asked = quantity.suite or quantity.condition
        return Evidence("", None, f"the agreement ({asked}) was not evaluated")
    missing = "baseline and candidate were not both evaluated"
    return Evidence(row.device, row.agreement, missing, row.evidence, blind=row.constant)


def _loss(delta: Estimate | None) -> Estimate | None:
    if delta is None:
        return None
    low = None if delta.high is None else -delta.high
    high = None if delta.low is None else -delta.low
    return Estimate(-delta.value, low, high, delta.confidence, delta.unit, delta.samples, delta.note)


def _count(quantity: Quantity, limit: str, result: Result) -> Evidence:
    roles = (CANDIDATE,) if limit == "max" else (CANDIDATE, BASELINE)
    figures = {role: _counted(quantity, result, role) for role in roles}
    files = [file for role in roles if (row := result.model(role)) for file in row.evidence]
    for role, value in figures.items():
        if value is None or (role == BASELINE and not value):
            return Evidence("", None, f"the {role}'s figure is missing", files)
    candidate, *baseline = (value for value in figures.values() if value is not None)
    return Evidence("", counted(candidate / baseline[0] if baseline else candidate), files=files)


def _budgets(result: Result) -> Iterator[Evidence]:
    """Yields reached / allowed for each budget of a step; a step with damaged files yields missing evidence."""
    unknown = [row for row in result.steps if NOT_VERIFIED in row.facts]
    asked = [(row, figure, pair) for row in result.steps for figure, pair in row.budgets.items()]
    for row in unknown:
        why = f"what {row.name} left cannot be told: {row.facts[NOT_VERIFIED]}"
        yield Evidence(row.name, None, why, row.evidence)
    for row, name, (allowed, reached) in asked:
        yield Evidence(f"{name} after {row.name}", counted(reached / max(1, allowed)), files=row.evidence)
    if not asked and not unknown:
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
    rows = [
        row for row in result.latency if device in (None, row.device) and (batch is None or row.batch in (None, batch))
    ]
    if not rows:
        asked = place(device or "any device", batch)
        yield Evidence(asked, None, f"nothing was measured on {asked}")
    for row in rows:
        ratio = limit == "ratio"
        estimate = ratio_of(row, quantity.field) if ratio else timing_of(row, CANDIDATE, quantity.field)
        missing = row.error or _absent(row, quantity.field, ratio)
        if missing == UNASKED:
            missing += UNPOWERED if device is None else ": add it, or take the gate away"
        yield Evidence(place(row.device, row.batch), estimate, missing, row.evidence, row.partial)


UNPOWERED = "; where another device has it, give the gate `device: NAME`"


def _absent(row: LatencyRow, field: str, ratio: bool) -> str:
    """The reason why a figure is missing, as the measurement gives it."""
    roles = (BASELINE, CANDIDATE) if ratio else (CANDIDATE,)
    reasons = (row.arms[role].missing.get(field) for role in roles if role in row.arms)
    return next((reason for reason in reasons if reason), "it was not measured")


def place(device: str, batch: int | None, target: str = "") -> str:
    """The device and batch size of a measurement, in words; with the target if several are shown together."""
    where = f"{target} on {device}" if target else device
    return where if batch is None else f"{where}, batch {batch}"


def place_in(result: Result, row: LatencyRow) -> str:
    """The target, device and batch size of a latency row, in words."""
    return place(row.device, row.batch, result.label(row.target))


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
