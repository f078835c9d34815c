"""Gates: what must hold before a model ships. Declaration and judgement, without torch and numpy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

from pydantic import Field, model_validator

from edgecr.core.errors import RequestError, UnknownName
from edgecr.core.estimate import Estimate
from edgecr.core.options import Options
from edgecr.report.gates.evidence import Evidence, evidence_for, ruined, unsound_words
from edgecr.report.gates.quantities import Kind, Quantity, quantities
from edgecr.report.numbers import Scale, apart, confidence_text, figure, number, with_unit
from edgecr.report.result import CandidateRow, GateResult, Result, Status, Verdict
from edgecr.robustness.conditions import CLEAN

LIMITS = ("drop", "ratio", "min", "max")
TOLERANCE = 1e-9
"""A figure that equals its limit passes; this swallows the rounding of binary fractions."""
CHANCE = "chance"
"""Names the condition that holds without being declared: a model that guesses never ships."""
NO_GATES = "no gates were declared"


class Gate(Options):
    """One condition of shipping: at least one limit, and how certain it must be."""

    drop: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Largest loss of accuracy against the baseline; 0.01 is one point."""
    ratio: Annotated[float, Field(gt=0)] | None = None
    """Largest candidate / baseline; for throughput the smallest, for budget the most that remains of what may."""
    min: Annotated[float, Field(ge=0)] | None = None
    """Smallest allowed value of the candidate (accuracy and agreement as fractions, img/s)."""
    max: Annotated[float, Field(gt=0)] | None = None
    """Largest allowed value of the candidate (ms, MB, parameters, MACs)."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] | None = None
    """With it the worse end of the interval must hold, not only the point estimate."""
    device: str | None = None
    """Judge only this device; on every measured one it must hold when left out."""
    batch: Annotated[int, Field(ge=1)] | None = None
    """Judge only this batch size; at every measured one it must hold when left out."""

    @model_validator(mode="after")
    def _some_limit(self) -> Gate:
        if not self.limits:
            raise ValueError(f"a gate needs at least one of {', '.join(LIMITS)}")
        return self

    @property
    def limits(self) -> dict[str, float]:
        """The limits that were given."""
        given = {name: getattr(self, name) for name in LIMITS}
        return {name: value for name, value in given.items() if value is not None}


def check_gate_name(name: str, suites: Iterable[str], gate: Gate | None = None) -> None:
    """Raises a RequestError when nothing of that name is judged in a recipe with those suites, or not so."""
    known = quantities(suites)
    if name not in known:
        if name in quantities():
            raise RequestError(f"{name} needs its suite: add it to robustness.suites")
        raise UnknownName("gate", name, known)
    if gate is not None:
        _check_limits(name, known[name], gate)


def _check_limits(name: str, quantity: Quantity, gate: Gate) -> None:
    for limit in gate.limits:
        if limit not in quantity.limits:
            raise RequestError(f"{limit} makes no sense for {name}; use {' or '.join(quantity.limits)}")
    if quantity.is_share and gate.min is not None and gate.min > 1:
        raise RequestError(f"{name}: min is a fraction between 0 and 1; write 0.9 for 90 %")
    if quantity.kind is not Kind.TIMING and (gate.device or gate.batch):
        raise RequestError(f"{name} does not depend on a device; leave device and batch out")


def check_judgeable(name: str, gate: Gate, devices: Sequence[str], batches: Sequence[int]) -> None:
    """Raises a RequestError for a gate that can never pass where these devices are measured at these batch sizes."""
    check_confidence(name, gate)
    if gate.device and gate.device not in devices:
        raise RequestError(f"device: {gate.device} is not measured; measured are {', '.join(devices) or 'no devices'}")
    if gate.batch and gate.batch not in batches:
        raise RequestError(f"batch: {gate.batch} is not measured; measured are {', '.join(map(str, batches))}")


def check_confidence(name: str, gate: Gate) -> None:
    """Raises a RequestError for a confidence in a figure that has no interval."""
    without = [limit for limit in gate.limits if limit in quantities()[name].uncertain]
    if gate.confidence and without:
        raise RequestError(f"{name}: its {without[0]} has no interval that a confidence could speak of; leave it out")


def level(gates: Mapping[str, Gate], *names: str) -> float:
    """The confidence at which the figure behind some gates is to be estimated: the highest that is asked for."""
    asked = [gate.confidence for name in names if (gate := gates.get(name)) and gate.confidence]
    return max(asked, default=0.95)


def about_device(gates: Mapping[str, Gate], device: str, devices: Sequence[str]) -> dict[str, Gate]:
    """The gates that must hold on one of the devices; one that names a device nobody measured must hold on each."""
    return {name: gate for name, gate in gates.items() if gate.device == device or gate.device not in devices}


def settle(gates: Mapping[str, Gate], result: Result, allow_partial: bool = False) -> list[GateResult]:
    """Every limit judged, and where all of them hold, what forbids to ship nevertheless."""
    judged = judge(gates, result, allow_partial)
    if all(each.status is Status.PASS for each in judged):
        judged += filter(None, (shaken(result), useless(result)))
    return judged


def judge(gates: Mapping[str, Gate], result: Result, allow_partial: bool = False) -> list[GateResult]:
    """Every limit of every gate, judged on what the result holds."""
    known = quantities()
    return [
        _judged(name, known[name], gate, limit, result, allow_partial)
        for name, gate in gates.items()
        for limit in gate.limits
    ]


_WORST_FIRST = (Status.FAIL, Status.INCOMPLETE, Status.PASS)


def _judged(name: str, quantity: Quantity, gate: Gate, limit: str, result: Result, allow_partial: bool) -> GateResult:
    """The worst of all places counts: the gate must hold everywhere."""
    found = evidence_for(quantity, limit, result, gate.device, gate.batch, allow_partial=allow_partial)
    sign = 1 if quantity.at_least(limit) else -1

    def badness(evidence: Evidence) -> tuple[int, float]:
        status = _status(quantity, gate, limit, evidence)
        value = evidence.estimate.value if evidence.estimate else 0.0
        return _WORST_FIRST.index(status), sign * value

    worst = min(found, key=badness)
    return _gate_result(name, quantity, gate, limit, worst, len(found))


def _holds(quantity: Quantity, gate: Gate, limit: str, value: float) -> bool:
    bound = gate.limits[limit]
    slack = TOLERANCE * max(1.0, abs(bound))
    return value >= bound - slack if quantity.at_least(limit) else value <= bound + slack


def _status(quantity: Quantity, gate: Gate, limit: str, evidence: Evidence) -> Status:
    estimate = evidence.estimate
    if estimate is None:
        return Status.INCOMPLETE
    if not _holds(quantity, gate, limit, estimate.value):
        return Status.FAIL
    if _proves_nothing(quantity, gate, limit, evidence):
        return Status.INCOMPLETE
    if gate.confidence is None:
        return Status.PASS
    worse = _worse_end(quantity, limit, estimate)
    if worse is None or (estimate.confidence or 0) < gate.confidence - TOLERANCE:
        return Status.INCOMPLETE
    return Status.PASS if _holds(quantity, gate, limit, worse) else Status.FAIL


def _proves_nothing(quantity: Quantity, gate: Gate, limit: str, evidence: Evidence) -> bool:
    """True where answers that were given without a look at the images would hold the limit too."""
    return evidence.blind is not None and _holds(quantity, gate, limit, evidence.blind)


def _worse_end(quantity: Quantity, limit: str, estimate: Estimate) -> float | None:
    return estimate.low if quantity.at_least(limit) else estimate.high


def _gate_result(name: str, quantity: Quantity, gate: Gate, limit: str, evidence: Evidence, places: int) -> GateResult:
    estimate, bound = evidence.estimate, gate.limits[limit]
    span = None
    if estimate and estimate.low is not None and estimate.high is not None:
        span = (estimate.low, estimate.high)
    return GateResult(
        name,
        _status(quantity, gate, limit, evidence),
        _text(quantity, gate, limit, evidence, places),
        _condition(quantity, gate, limit),
        estimate.value if estimate else None,
        bound,
        span,
    )


def _condition(quantity: Quantity, gate: Gate, limit: str) -> str:
    sign = "≥" if quantity.at_least(limit) else "≤"
    bound = with_unit(gate.limits[limit], quantity.scale_of(limit))
    certain = f", {confidence_text(gate.confidence)} certain" if gate.confidence else ""
    return f"{limit} {sign} {bound}{certain}"


def _text(quantity: Quantity, gate: Gate, limit: str, evidence: Evidence, places: int) -> str:
    where = f" on {evidence.place}" if evidence.place else ""
    where += f" (worst of {places})" if places > 1 else ""
    estimate = evidence.estimate
    if estimate is None:
        told = not where or evidence.place in evidence.missing
        return evidence.missing if told else f"{where.lstrip()}: {evidence.missing}"
    scale = quantity.scale_of(limit)
    status = _status(quantity, gate, limit, evidence)
    if status is Status.FAIL:
        scale = apart(estimate.value, gate.limits[limit], scale)
    word = limit if limit in ("drop", "ratio") else "value"
    partial = f"; the measurement is partial ({evidence.partial})" if evidence.partial else ""
    found = f"{word} {figure(estimate, scale)}{where}"
    if status is Status.INCOMPLETE and _proves_nothing(quantity, gate, limit, evidence):
        return f"{_blind_words(evidence, scale)}; {found}{partial}"
    return found + _doubt(quantity, gate, limit, estimate) + partial


def _blind_words(evidence: Evidence, scale: Scale) -> str:
    return (
        f"the baseline gives one and the same answer for {with_unit(evidence.blind or 0, scale)} of the images, so "
        "always giving it would hold this limit too, and the candidate's answers prove nothing: check mean, std, the "
        "images and the baseline itself, or set a higher limit"
    )


def _doubt(quantity: Quantity, gate: Gate, limit: str, estimate: Estimate) -> str:
    """A remark on the interval: too wide, absent, of another confidence than asked for, or beyond the limit."""
    if gate.confidence is None or not _holds(quantity, gate, limit, estimate.value):
        return _coarse(quantity, limit, gate.limits[limit], estimate)
    asked = confidence_text(gate.confidence)
    worse = _worse_end(quantity, limit, estimate)
    if worse is None:
        return f"; too few samples for an interval at {asked}"
    if (estimate.confidence or 0) < gate.confidence - TOLERANCE:
        return f"; its interval is of {confidence_text(estimate.confidence or 0)}, not {asked}"
    if _holds(quantity, gate, limit, worse):
        return ""
    end = number(worse, quantity.scale_of(limit))
    return f"; the estimate holds, but at {asked} it may be {end}: more images or samples could settle it"


def _coarse(quantity: Quantity, limit: str, bound: float, estimate: Estimate) -> str:
    """A remark on an interval that is wider than the tolerance which it is to judge."""
    tolerance = _tolerance(quantity, limit, bound)
    if estimate.low is None or estimate.high is None or estimate.confidence is None or tolerance is None:
        return ""
    width = estimate.high - estimate.low
    if width <= tolerance + TOLERANCE:
        return ""
    scale = quantity.scale_of(limit)
    return (
        f"; its {confidence_text(estimate.confidence)} interval is {with_unit(width, scale)} wide, wider than the "
        f"tolerance of {with_unit(tolerance, scale)}: more images or samples would tell more"
    )


def _tolerance(quantity: Quantity, limit: str, bound: float) -> float | None:
    """The margin between the ideal value and the limit; None for a ratio of exactly 1, which has no margin."""
    if limit == "ratio":
        return abs(1 - bound) or None
    return 1 - bound if limit == "min" and quantity.is_share else bound


def verdict(judged: Iterable[GateResult]) -> Verdict:
    """All gates together; any failure outweighs what is missing, and no gates at all prove nothing."""
    statuses = {each.status for each in judged}
    if Status.FAIL in statuses:
        return Verdict.DONT_SHIP
    return Verdict.SHIP if statuses == {Status.PASS} else Verdict.INCOMPLETE


def shaken(result: Result) -> GateResult | None:
    """A result that prevents shipping although all gates pass: a model or the question is not as the run wrote it."""
    wrong = unsound_words(result, *(row.evidence for row in result.models))
    if not wrong:
        return None
    return GateResult("evidence", Status.INCOMPLETE, wrong, "the judged models and the question are what the run wrote")


def useless(result: Result) -> GateResult | None:
    """A candidate that guesses, however far the gates let its accuracy fall; None for a better one."""
    told = next(filter(None, (ruined(row) for row in result.accuracy if row.condition == CLEAN)), "")
    return GateResult(CHANCE, Status.FAIL, told, "the candidate answers better than by chance") if told else None


def reasons(result: Result) -> list[str]:
    """The reasons for the verdict: the gates that did not pass, or a statement that all of them hold."""
    if not result.gates:
        return [f"{NO_GATES}, so nothing says that this model may ship"]
    if result.many:
        return [_on_device(device, result) for device in result.devices]
    open_gates = [each for each in result.gates if each.status is not Status.PASS]
    if open_gates:
        return [f"{each.status.value} {each.name}: {each.text}; must hold: {each.condition}" for each in open_gates]
    return ["the only gate holds" if len(result.gates) == 1 else f"all {len(result.gates)} gates hold"]


def _on_device(device: str, result: Result) -> str:
    """The targets that may ship on a device, the preferred one first; if there are none, the verdict on each target."""
    where, rows = f"on {device}" if device else "", [row for row in result.candidates if row.device == device]
    shipped = sorted((row for row in rows if row.ships), key=lambda row: row.order)
    if not shipped:
        told = "; ".join(f"{row.target}: {row.verdict.value}" for row in rows)
        return f"{where} no target may ship: {told}".lstrip()
    first, *others = shipped
    chosen = f"{where} ship {first.target}".lstrip()
    reason = preferred_words(first, result.prefer) if others else ""
    more = f"; {', '.join(row.target for row in others)} may ship too" if others else ""
    return chosen + (f", {reason}" if reason else "") + (f" ({first.file})" if first.file else "") + more


def preferred_words(row: CandidateRow, prefer: str) -> str:
    """The reason why a target is the first of several that may ship."""
    if row.ordered_by:
        return f"preferred by {row.ordered_by}"
    return f"the first in the recipe: no {prefer} to compare"
