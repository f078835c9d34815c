"""The energy of one inference: power integrated over an arm's own turns, and nothing where that cannot be done well."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from edgecr.core.absent import UNASKED as UNASKED
from edgecr.runners.measurement.readings import Watched
from edgecr.runners.measurement.record import Launch, Measurement, Round
from edgecr.runners.power import Power

LEAST_READINGS = 20
LEAST_IN_A_TURN = 3
"""Sensors average over a while: in shorter turns the power of one arm is read in the next one's."""
MOST_GAP_NS = 10**9
NOTHING = "not measured: by its power sensor the board took nothing; see to the sensor's wiring and driver"
SUMMED = {
    "AGX Orin": ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
    "AGX Xavier": ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),
}
"""Modules without a rail that everything goes through; the first two rails of each tell that it is one."""
INPUTS = {"VIN": "module", "VDD_IN": "module", "POM_5V_IN": "module"}
"""Rails that everything goes through, the first that there is, and what they are the input of."""
SCOPES = {
    "module": "the module's input",
    "board": "the whole board",
    "rails": "the sum of rails, without the rest of the board",
    "package": "the processor package alone",
}


@dataclass(frozen=True)
class Total:
    """The rails whose sum is reported, and the part of the machine that they feed."""

    rails: tuple[str, ...]
    scope: str


class NoEnergy(Exception):
    """The reason why there is no figure."""


def total_of(rails: Iterable[str], source: str | None, power: Power) -> Total:
    """The total by the device's file, else by the rules of known boards; NoEnergy for a rail that is not there."""
    there = tuple(sorted(rails))
    if power.total_rail is not None:
        if power.total_rail not in there:
            raise NoEnergy(f"the board has no rail {power.total_rail} (it has {', '.join(there) or 'none'})")
        return Total((power.total_rail,), power.scope or INPUTS.get(power.total_rail, "rails"))
    chosen, scope = _by_rules(there, source)
    return Total(chosen, power.scope or scope)


def _by_rules(there: tuple[str, ...], source: str | None) -> tuple[tuple[str, ...], str]:
    if source == "rapl":
        return there, "package"
    for rail, scope in INPUTS.items():
        if rail in there:
            return (rail,), scope
    for parts in SUMMED.values():
        if set(parts[:2]) <= set(there):
            return tuple(rail for rail in parts if rail in there), "rails"
    return there, "rails"


def _total(values: Sequence[float | None], unit: str) -> float | None:
    """The rails' sum at one moment; None where a rail was silent, or where no machine that runs could be.

    One rail may be idle, or read a little below 0, but all of them together take some power; a counter begins at 0.
    """
    known = [value for value in values if value is not None]
    total = sum(known)
    possible = total >= 0 if unit == "uj" else total > 0
    return total if possible and len(known) == len(values) else None


class PowerTrace:
    """The energy that went through some rails since the first reading, at any moment in between."""

    def __init__(self, watched: Watched, rails: Sequence[str]) -> None:
        self.counted = any(each.unit == "uj" for each in watched.power)
        points: dict[int, float] = {
            at: total
            for each in watched.power
            for at, *values in zip(each.at_ns, *(each.rails.get(rail, (None,) * len(each.at_ns)) for rail in rails))
            if (total := _total(values, each.unit)) is not None
        }
        self.at = sorted(points)
        self.values = [points[at] for at in self.at]
        self.joules = self._cumulated()

    def _cumulated(self) -> list[float]:
        """Joules since the first reading, at each reading."""
        found = [0.0] if self.at else []
        for place in range(1, len(self.at)):
            before, now = self.values[place - 1], self.values[place]
            grown = max(0.0, now - before) / 1e6  # a counter begins at 0 in each job; between jobs nothing is told
            found.append(found[-1] + (grown if self.counted else self._trapezoid(place - 1, self.at[place], now)))
        return found

    def _trapezoid(self, place: int, end: int, power: float) -> float:
        """Joules from one reading to a later moment, of milliwatts and nanoseconds."""
        return (self.values[place] + power) / 2 * (end - self.at[place]) / 1e12

    def inside(self, start: int, end: int) -> int:
        """The number of readings within a window."""
        return bisect_right(self.at, end) - bisect_left(self.at, start)

    def between(self, start: int, end: int) -> float:
        """Joules within a window, its edges interpolated; NoEnergy where the readings do not cover it."""
        if not self.at or start < self.at[0] or end > self.at[-1]:
            raise NoEnergy("the power readings do not cover the measured time")
        first, last = bisect_right(self.at, start) - 1, min(bisect_left(self.at, end), len(self.at) - 1)
        if any(late - early > MOST_GAP_NS for early, late in zip(self.at[first:last], self.at[first + 1 : last + 1])):
            raise NoEnergy("the power readings have a gap of more than a second")
        return self._until(end) - self._until(start)

    def _until(self, moment: int) -> float:
        place = min(bisect_right(self.at, moment), len(self.at) - 1) - 1
        if place < 0:
            return 0.0
        share = (moment - self.at[place]) / (self.at[place + 1] - self.at[place])
        if self.counted:
            return self.joules[place] + share * (self.joules[place + 1] - self.joules[place])
        power = self.values[place] + share * (self.values[place + 1] - self.values[place])
        return self.joules[place] + self._trapezoid(place, moment, power)


@dataclass(frozen=True)
class Spent:
    """The energy of all turns of an arm in one launch."""

    joules: float
    seconds: float
    calls: int
    readings: int

    @property
    def per_call(self) -> float:
        """Millijoules of one inference."""
        return self.joules / self.calls * 1e3

    def above(self, idle_watts: float) -> float:
        """Millijoules of one inference beyond what the idle board would have taken."""
        return (self.joules - idle_watts * self.seconds) / self.calls * 1e3


def spent(trace: PowerTrace, rounds: Sequence[Round], arms: int) -> Spent:
    """The energy of an arm's turns; NoEnergy where there are too few readings in them."""
    if not trace.at:
        raise NoEnergy(NOTHING)
    windows = [(one.start_ns, one.start_ns + one.window_ns) for one in rounds]
    counts = [trace.inside(*window) for window in windows]
    if sum(counts) < LEAST_READINGS:
        raise NoEnergy(
            f"{sum(counts)} power readings fall into its turns, at least {LEAST_READINGS} are needed: "
            "ask for more rounds or for longer ones (protocol.round_s), or for a shorter power.period_ms"
        )
    if arms > 1 and median(counts) < LEAST_IN_A_TURN:
        raise NoEnergy(
            f"a turn holds {median(counts):g} power readings, so that the power of one model would be read in "
            f"another's turn: {LEAST_IN_A_TURN} are needed, so raise protocol.round_s"
        )
    joules = sum(trace.between(*window) for window in windows)
    if joules <= 0:
        raise NoEnergy(NOTHING)
    return Spent(
        joules, sum(end - start for start, end in windows) / 1e9, sum(len(one.ns) for one in rounds), sum(counts)
    )


def spent_in(measurement: Measurement, launch: Launch, arm: int) -> Spent:
    """The energy of an arm's turns in a launch; NoEnergy with the reason where it cannot be told."""
    power = measurement.device.power
    if power is None:
        raise NoEnergy(UNASKED)
    trace = PowerTrace(launch.watched, total_in(measurement, launch).rails)
    return spent(trace, [one for one in launch.rounds if one.arm == arm], len(measurement.arms))


def total_in(measurement: Measurement, launch: Launch) -> Total:
    """The total of a launch's readings; NoEnergy where there are none."""
    power, watched = measurement.device.power, launch.watched
    if power is None:
        raise NoEnergy(UNASKED)
    rails = {rail for each in watched.power for rail in each.rails}
    if not rails:
        raise NoEnergy(f"not measured: {watched.sensor.reason or watched.failure or 'the board sent no power reading'}")
    return total_of(rails, watched.sensor.source, power)


def idle_watts(measurement: Measurement, total: Total) -> float | None:
    """The mean power of the idle board; None where too little was read."""
    idle = measurement.idle
    trace = PowerTrace(idle, total.rails) if idle else None
    if trace is None or len(trace.at) < LEAST_READINGS:
        return None
    return trace.joules[-1] / ((trace.at[-1] - trace.at[0]) / 1e9)
