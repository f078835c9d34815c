"""A long measurement minute by minute: times, temperature, clocks and throttling, and the order of the models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from edgecr.core.estimate import SMALLEST_CLAIM
from edgecr.runners.fitness.jetson import grown
from edgecr.runners.measurement.contention import Contention
from edgecr.runners.measurement.readings import BoardState
from edgecr.runners.measurement.record import Launch, Measurement

MINUTE_NS = 60 * 10**9
LEAST_MINUTES = 2


@dataclass(frozen=True)
class Minute:
    """One minute of a launch: the median time of every arm, and the state of the board."""

    number: int
    ms: dict[int, float]
    temperature_c: float | None = None
    """The hottest zone's."""
    gpu_mhz: float | None = None
    cpu_mhz: float | None = None
    events: str = ""
    """Throttling and over-current events, in words."""


@dataclass(frozen=True)
class Course:
    """A launch that took several minutes."""

    minutes: tuple[Minute, ...]
    labels: dict[int, str] = field(default_factory=dict)

    @property
    def conclusion(self) -> str:
        """The answer to the question that a long measurement is for: does the first minute tell the truth?"""
        first, last = self.minutes[0], self.minutes[-1]
        slower = ", ".join(f"{name} {last.ms[arm] / first.ms[arm] - 1:+.0%}" for arm, name in self.labels.items())
        told = f"From minute 1 to minute {last.number}: {slower}."
        if len(self.labels) < 2:
            return told
        before, after = (sorted(self.labels, key=lambda arm: minute.ms[arm]) for minute in (first, last))
        swapped = before != after and not all(_near(minute, before, after) for minute in (first, last))
        names = ", ".join(self.labels[arm] for arm in after)
        return told + (
            f" The order changed: at last it is {names}, fastest first." if swapped else " The order stayed the same."
        )


def course_of(measurement: Measurement, batch: int) -> Course | None:
    """The course of the longest launch at one batch size; None if none took two minutes of a processor of its own."""
    calm = [one for one in _long_launches(measurement) if not _shared(measurement, one, batch)]
    launch = max(calm, key=_span_ns, default=None)
    if launch is None:
        return None
    start, count = launch.rounds[0].start_ns, _span_ns(launch) // MINUTE_NS
    times: list[dict[int, list[int]]] = [{} for _ in range(count)]
    for one in launch.rounds:
        place = min((one.start_ns - start) // MINUTE_NS, count - 1)
        times[place].setdefault(one.arm, []).extend(one.ns)
    labels = {
        number: arm.label
        for number, arm in enumerate(measurement.arms)
        if arm.batch == batch and all(number in each for each in times)
    }
    found = [_minute(place, each, launch, start, list(labels)) for place, each in enumerate(times)]
    return Course(tuple(found), labels) if labels else None


def withheld_course(measurement: Measurement, batch: int) -> str:
    """The reason why a measurement that was long enough is not shown minute by minute; empty if it is, or was short."""
    reasons = [_shared(measurement, one, batch) for one in _long_launches(measurement)]
    return f"not shown minute by minute: {reasons[0]}" if reasons and all(reasons) else ""


def _long_launches(measurement: Measurement) -> list[Launch]:
    return [one for one in measurement.launches if _span_ns(one) >= LEAST_MINUTES * MINUTE_NS]


def _shared(measurement: Measurement, launch: Launch, batch: int) -> str | None:
    """The reason why a launch gives no times of a batch size; over-current events are part of what minutes show."""
    arms = [number for number, arm in enumerate(measurement.arms) if arm.batch == batch]
    timed = [[one for one in launch.rounds if one.arm == arm] for arm in arms]
    reasons = (Contention.during(rounds).reason(measurement.device.protocol) for rounds in timed if rounds)
    return next((reason for reason in reasons if reason), None)


def _minute(place: int, times: dict[int, list[int]], launch: Launch, start: int, arms: list[int]) -> Minute:
    begin, end = start + place * MINUTE_NS, start + (place + 1) * MINUTE_NS
    states = [one for one in launch.watched.states if begin <= one.at_ns < end]
    ms = {arm: median(times[arm]) / 1e6 for arm in arms}
    heat = [value for one in states for value in one.temperatures.values()]
    gpu, cpu = _clock(states, "gpu_hz", 1e6), _clock(states, "cpu_khz", 1e3)
    return Minute(place + 1, ms, max(heat, default=None), gpu, cpu, _events(states))


def _clock(states: Sequence[BoardState], name: str, unit: float) -> float | None:
    known = [value for one in states if (value := getattr(one, name)) is not None]
    return median(known) / unit if known else None


def _events(states: Sequence[BoardState]) -> str:
    if len(states) < 2:
        return ""
    first, last = states[0], states[-1]
    found = [grown(dict(first.over_current), dict(last.over_current))]
    throttled = (last.throttle_count or 0) - (first.throttle_count or 0)
    if throttled > 0:
        found.append(f"throttled +{throttled}")
    if any((one.throttle_flags or 0) & 0xF for one in states):
        found.append("under-voltage or throttled")
    return ", ".join(filter(None, found))


def _span_ns(launch: Launch) -> int:
    rounds = launch.rounds
    return rounds[-1].start_ns + rounds[-1].elapsed_ns - rounds[0].start_ns if rounds else 0


def _near(minute: Minute, before: Sequence[int], after: Sequence[int]) -> bool:
    """True if all arms that changed places are too near to one another to have an order."""
    moved = [minute.ms[arm] for place, arm in enumerate(before) if after[place] != arm]
    return max(moved) / min(moved) - 1 <= SMALLEST_CLAIM
