"""Judges every target on every device: each pair by itself, and what all pairs together say of the run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from edgecr.core.estimate import SMALLEST_CLAIM
from edgecr.report.gates.evidence import evidence_for, ratio_of, timing_of
from edgecr.report.gates.judge import Gate, about_device, settle, verdict
from edgecr.report.gates.quantities import quantities
from edgecr.report.numbers import RATIO, with_unit
from edgecr.report.result import (
    CANDIDATE,
    MEAN,
    AccuracyRow,
    CandidateRow,
    GateResult,
    LatencyRow,
    Result,
    Status,
    Verdict,
)
from edgecr.robustness.suites import CLEAN

PREFERENCES = {"latency": ("latency_p50", "max"), "size": ("size", "max"), "accuracy": ("clean_accuracy", "min")}
"""The figure of the candidate that each preference orders by, as a gate and its limit would name it."""


def judge_candidates(
    gates: Mapping[str, Gate], result: Result, allow_partial: bool = False
) -> tuple[list[CandidateRow], list[GateResult]]:
    """Every target on every device with its verdict, and all gates that it was judged by."""
    rows, judged = list[CandidateRow](), list[GateResult]()
    for device in result.devices:
        asked, here = about_device(gates, device, result.devices), list[CandidateRow]()
        for target in result.targets:
            part = result.only(target, device)
            found = settle(asked, part, allow_partial) if gates else []
            here.append(_row(target, device, part, found, bool(gates)))
            judged += [replace(each, target=target, device=device) for each in found]
        rows += _ordered(here, result, allow_partial)
    return [replace(row, remarks=[*_remarks(row, result), *row.remarks]) for row in rows], judged


def run_verdict(candidates: Sequence[CandidateRow]) -> Verdict:
    """SHIP when some target may on every device; DON'T SHIP when none may on one of them, and one of those failed."""
    devices = dict.fromkeys(row.device for row in candidates)
    left = [device for device in devices if not any(row.ships for row in candidates if row.device == device)]
    if not left:
        return Verdict.SHIP if candidates else Verdict.INCOMPLETE
    failed = any(row.verdict is Verdict.DONT_SHIP for row in candidates if row.device in left)
    return Verdict.DONT_SHIP if failed else Verdict.INCOMPLETE


def views(result: Result) -> list[Result]:
    """The result as one for each target; the result itself where there is only one."""
    return [result.only(target) for target in result.targets] if result.many else [result]


def named_views(result: Result, name: str = "") -> list[tuple[str, Result]]:
    """The views with names that tell them apart, behind the name of the run where there are several runs."""
    return [(": ".join(filter(None, (name, result.label(view.targets[0])))), view) for view in views(result)]


def focus(result: Result) -> Result:
    """The part that the figures on top are about: of several targets the preferred one, on the first device."""
    if not result.many:
        return result
    chosen = next((row for row in result.candidates if row.order == 1), None)
    return result.only(chosen.target, chosen.device) if chosen else result.only(result.targets[0], result.devices[0])


def focus_name(result: Result) -> str:
    """The candidate that the figures on top are about, in words."""
    shown = focus(result)
    return name_of(shown.targets[0], shown.devices[0])


def name_of(target: str, device: str) -> str:
    """A candidate in words: the target and where it runs."""
    return " on ".join(part for part in (target, device) if part)


def _row(target: str, device: str, part: Result, judged: Sequence[GateResult], asked: bool) -> CandidateRow:
    """One candidate with the few figures that are worth a table of all of them."""
    model, suite, slowest = part.model(CANDIDATE), _worst_suite(part), _slowest(part)
    clean = part.accuracy_of(None, CLEAN)
    vacuous = asked and not judged
    return CandidateRow(
        target,
        device,
        Verdict.SHIP if vacuous else verdict(judged),
        why=[f"{each.status.value} {each.name}: {each.text}" for each in judged if each.status is not Status.PASS],
        remarks=["no gate is about this device"] if vacuous else [],
        file=model.file if model else "",
        clean=clean.delta if clean else None,
        suite=suite.suite if suite else "",
        suite_delta=suite.delta if suite else None,
        agreement=clean.agreement if clean else None,
        suite_agreement=suite.agreement if suite else None,
        batch=slowest.batch if slowest else None,
        latency=ratio_of(slowest, "p50") if slowest else None,
        size_bytes=model.size_bytes if model else None,
    )


def _worst_suite(part: Result) -> AccuracyRow | None:
    """The mean over a suite's corruptions that compression cost most; a missing one is worse than any."""

    def left(row: AccuracyRow) -> float:
        figure = row.delta if part.labelled else row.agreement
        return figure.value if figure else float("-inf")

    return min((row for row in part.accuracy if row.condition == MEAN), key=left, default=None)


def _slowest(part: Result) -> LatencyRow | None:
    """The batch size at which compression saves least; a missing ratio is worse than any."""

    def cost(row: LatencyRow) -> float:
        ratio = ratio_of(row, "p50")
        return ratio.value if ratio else float("inf")

    return max(part.latency, key=cost, default=None)


# What is preferred


_UNKNOWN = float("inf")


def _ordered(here: Sequence[CandidateRow], result: Result, allow_partial: bool) -> list[CandidateRow]:
    """The targets on one device, those that may ship numbered by preference; equal ones in the recipe's order."""
    figures = {row.target: _figure(row, result, allow_partial) for row in here if row.ships}
    numbers = {target: number for number, target in enumerate(sorted(figures, key=lambda each: figures[each]), start=1)}
    found = []
    for row in here:
        known = figures.get(row.target, _UNKNOWN) < _UNKNOWN
        found.append(replace(row, order=numbers.get(row.target, 0), ordered_by=result.prefer if known else ""))
    return found


def _figure(row: CandidateRow, result: Result, allow_partial: bool) -> float:
    """The figure that a target is preferred by, smaller is better; a latency is that of the smallest batch."""
    name, limit = PREFERENCES[result.prefer]
    quantity, part = quantities([])[name], result.only(row.target, row.device)
    batch = min((each.batch for each in result.latency if each.batch is not None), default=None)
    (found, *_) = evidence_for(quantity, limit, part, batch=batch, allow_partial=allow_partial)
    if found.estimate is None:
        return _UNKNOWN
    return -found.estimate.value if quantity.at_least(limit) else found.estimate.value


# Slower than a sibling of another precision, or no faster

WORTHWHILE = 1.02
"""Speed over a sibling of more bits from which on fewer bits pay."""


def slower_siblings(result: Result) -> Iterator[str]:
    """The warning that comes first: a target of fewer bits that is slower than one of more bits."""
    for row in result.candidates:
        own = _precision(row.target, result)
        for faster, times in _faster_siblings(row, result).items():
            other = _precision(faster, result)
            if _bits(own) < _bits(other):
                yield (
                    f"{row.target} ({own}) is slower than {faster} ({other}) on {row.device}: {times}; "
                    "the two were measured one after the other, not in turns."
                )


def idle_siblings(result: Result) -> Iterator[str]:
    """The warning about a target of fewer bits that is no slower than one of more, but not worth it for speed."""
    for row in result.candidates:
        own, slower_than = _precision(row.target, result), _faster_siblings(row, result)
        for other in result.targets if own else ():
            theirs = _precision(other, result)
            gains = _gains(row, other, result) if theirs and _bits(own) < _bits(theirs) else []
            if other not in slower_than and gains and max(gains) < WORTHWHILE:
                yield (
                    f"{row.target} ({own}) gains no speed over {other} ({theirs}) on {row.device}: at most "
                    f"{with_unit(max(gains), RATIO)} as fast, and under {with_unit(WORTHWHILE, RATIO)} is noise; "
                    "what it brings is its size."
                )


def _gains(row: CandidateRow, other: str, result: Result) -> list[float]:
    """The speed of a target over another one at each batch size at which both were soundly measured."""
    rivals = {each.batch: each for each in result.only(other, row.device).latency}
    found = []
    for mine in result.only(row.target, row.device).latency:
        rival = rivals.get(mine.batch)
        if rival is None or mine.partial or rival.partial or result.unsound(mine.evidence, rival.evidence):
            continue
        found.append(_median(rival) / _median(mine))
    return [gain for gain in found if 0 < gain < _UNKNOWN]


def _remarks(row: CandidateRow, result: Result) -> Iterator[str]:
    for faster, times in _faster_siblings(row, result).items():
        yield f"slower than {faster} ({_precision(faster, result)}): {times}"


def _faster_siblings(row: CandidateRow, result: Result) -> dict[str, str]:
    """Targets of another precision, the fastest at each batch size, that are surely faster; and how much, in words."""
    own, found = _precision(row.target, result), dict[str, str]()
    for mine in result.only(row.target, row.device).latency if own else ():
        rivals = [
            each
            for each in result.latency
            if (each.device, each.batch) == (mine.device, mine.batch)
            and _precision(each.target, result) not in ("", own)
            and _surely_slower(mine, each, result)
        ]
        if rivals:
            fastest = min(rivals, key=_median)
            ratio = with_unit(_median(mine) / _median(fastest), RATIO)
            before = (
                f"{found[fastest.target]}, {ratio}" if fastest.target in found else f"{ratio} of its median latency"
            )
            found[fastest.target] = before + ("" if mine.batch is None else f" at batch {mine.batch}")
    return found


def _surely_slower(one: LatencyRow, other: LatencyRow, result: Result) -> bool:
    """True if ``one`` is slower by a claimable factor, with disjoint intervals of the medians; both must be sound."""
    slow, fast = (timing_of(row, CANDIDATE, "p50") for row in (one, other))
    if slow is None or fast is None or slow.low is None or fast.high is None or fast.value <= 0:
        return False
    if one.partial or other.partial or result.unsound(one.evidence, other.evidence):
        return False
    return slow.low > fast.high and slow.value / fast.value > 1 + SMALLEST_CLAIM


def _median(row: LatencyRow) -> float:
    found = timing_of(row, CANDIDATE, "p50")
    return found.value if found else _UNKNOWN


def _precision(target: str, result: Result) -> str:
    """The precision of a target's exported candidate; empty where its file is not verified."""
    return next((row.precision for row in result.exports if (row.target, row.role) == (target, CANDIDATE)), "")


def _bits(precision: str) -> float:
    """The number in the name of a precision; one without a number is never said to be of fewer bits."""
    found = re.search(r"\d+", precision)
    return int(found[0]) if found else _UNKNOWN
