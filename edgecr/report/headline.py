"""The few figures that stand on top of a report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgecr.core.estimate import Estimate
from edgecr.report.doubts import about_speed
from edgecr.report.gates.evidence import not_verified, place, ratio_of, timing_of
from edgecr.report.gates.quantities import Kind, quantities
from edgecr.report.numbers import (
    MILLISECONDS,
    MISSING,
    NATS,
    PERCENT,
    POINTS,
    RATIO,
    counted,
    figure,
    interval,
    point,
    size,
    with_unit,
)
from edgecr.report.result import BASELINE, CANDIDATE, MEAN, AccuracyRow, LatencyRow, Result
from edgecr.robustness.conditions import CLEAN, in_words

ROLES = (BASELINE, CANDIDATE)


@dataclass(frozen=True)
class KeyFigure:
    """One of the few figures on top: what, how much, and what it is compared with."""

    label: str
    value: str
    detail: str
    doubts: tuple[str, ...] = ()


def key_figures(result: Result) -> list[KeyFigure]:
    """Accuracy, robustness, speed and size at one glance; without labels it is agreement with the baseline.

    With labels the agreements that gates are about stand beside the accuracies.
    """
    shown, clean, words = (
        (_accuracy_figure, "clean accuracy", "accuracy")
        if result.labelled
        else (_agreement_figure, "agreement", "agreement")
    )
    found = [shown(result, clean, None, CLEAN)]
    found += [
        shown(result, f"{suite} {words}", suite, MEAN) for suite in result.suites if result.accuracy_of(suite, MEAN)
    ]
    found += [*_gated_agreements(result), _speed_figure(result)] if result.labelled else [_speed_figure(result)]
    before, after = (getattr(result.model(role), "size_bytes", None) for role in ROLES)
    ratio = point(model_ratio(result, "size_bytes"), RATIO)
    missing = not_verified(result, *(row.evidence for row in result.models)) or "not exported for both roles"
    detail = f"{ratio} of {size(before)}" if before and after else missing
    return [*found, KeyFigure("file size", size(after), detail)]


def _accuracy_figure(result: Result, label: str, suite: str | None, condition: str) -> KeyFigure:
    row = result.accuracy_of(suite, condition)
    if row is None or row.candidate is None:
        return _no_figure(result, label, row)
    delta = f"{figure(row.delta, POINTS)} against {point(row.baseline, PERCENT)}"
    return KeyFigure(label, point(row.candidate, PERCENT), delta + _answered_on(result, row))


def _gated_agreements(result: Result) -> Iterator[KeyFigure]:
    """The agreements that the verdict rests on."""
    known = quantities()
    for name in dict.fromkeys(gate.name for gate in result.gates):
        asked = known.get(name)
        if asked is not None and asked.kind is Kind.AGREEMENT:
            under = "" if asked.condition in (CLEAN, MEAN) else in_words(asked.condition)
            label = " ".join(filter(None, (asked.suite, under, asked.kind.value)))
            yield _agreement_figure(result, label, asked.suite, asked.condition)


def _agreement_figure(result: Result, label: str, suite: str | None, condition: str) -> KeyFigure:
    row = result.accuracy_of(suite, condition)
    if row is None or row.agreement is None:
        return _no_figure(result, label, row)
    apart = f", {row.distance} {distance_cell(row)}" if row.distance else ""
    detail = f"{interval(row.agreement, PERCENT)} of {row.agreement.samples:,} images answered as the baseline does"
    return KeyFigure(label, point(row.agreement, PERCENT), detail + apart + _answered_on(result, row))


def _answered_on(result: Result, row: AccuracyRow) -> str:
    """The machine that answered, where several did: a figure on top is of one of them."""
    count = len(result.accuracies_of(row.suite, row.condition))
    return f", answered on {row.device or 'this machine'}{_one_of(count)}" if count > 1 else ""


def _one_of(count: int) -> str:
    return f", one of {count} devices" if count > 1 else ""


def _no_figure(result: Result, label: str, row: AccuracyRow | None) -> KeyFigure:
    missing = not_verified(result, row.evidence) or row.error if row else ""
    return KeyFigure(label, MISSING, missing or NOT_EVALUATED)


NOT_EVALUATED = "not evaluated"


def distance_cell(row: AccuracyRow) -> str:
    """The distance of the candidate's outputs from the baseline's; answers of earlier versions do not tell it."""
    if row.agreement is None:
        return MISSING
    return figure(row.divergence, NATS) if row.divergence else NOT_EVALUATED


def first_measured(result: Result) -> LatencyRow | None:
    """The first device and batch with a figure for the candidate."""
    return next((row for row in result.latency if CANDIDATE in row.arms), None)


def _speed_figure(result: Result) -> KeyFigure:
    row = first_measured(result)
    candidate = timing_of(row, CANDIDATE, "p50") if row else None
    ratio = ratio_of(row, "p50") if row else None
    if row is None:
        failed = next((each.error for each in result.latency if each.error), "not measured")
        return KeyFigure("median latency", MISSING, failed)
    where, doubts = place(row.device, row.batch) + _one_of(len(result.devices)), tuple(about_speed(row))
    if candidate is None and ratio is None:
        return KeyFigure("median latency", MISSING, f"on {where}", doubts or ("not measured",))
    hedge = "" if ratio is None or ratio.differs else f"; {claim(ratio)}"
    if candidate is None:
        detail = f"of the baseline's on {where}, paired; no absolute time{hedge}"
        return KeyFigure("median latency", figure(ratio, RATIO), detail, doubts)
    before = point(timing_of(row, BASELINE, "p50"), MILLISECONDS)
    detail = f"{figure(ratio, RATIO)} of {before} on {where}{hedge}"
    return KeyFigure("median latency", point(candidate, MILLISECONDS), detail, doubts)


def claim(ratio: Estimate | None) -> str:
    """The claim that a ratio of times supports, in words."""
    if ratio is None or ratio.low is None:
        return "nothing is claimed without an interval"
    if not ratio.differs:
        return "no difference is claimed"
    return "faster" if ratio.value < 1 else "slower"


def ideal_vs_measured(result: Result) -> str:
    """Ideal against measured speed-up: what the removed work promised and what the device gave."""
    macs, row = model_ratio(result, "macs"), first_measured(result)
    measured = ratio_of(row, "p50") if row else None
    if row is None or macs is None or measured is None or not macs.value or not measured.value:
        return ""
    ideal, real = 1 / macs.value, 1 / measured.value
    where = place(row.device, row.batch)
    promise = f"The removed work alone would give {with_unit(ideal, RATIO)} the speed; "
    if not measured.differs:
        return f"{promise}on {where}, {claim(measured)} (time ratio {figure(measured, RATIO)})."
    return f"{promise}{where} gives {with_unit(real, RATIO)} ({with_unit(real / ideal, PERCENT)} of it)."


def model_ratio(result: Result, field: str) -> Estimate | None:
    """Candidate over baseline of a counted figure."""
    before, after = (getattr(result.model(role), field, None) for role in ROLES)
    return counted(after / before) if before and after is not None else None
