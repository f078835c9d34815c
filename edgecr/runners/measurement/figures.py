"""The figures of an arm that come from readings beside its turns: energy, and the memory of the whole board."""

from __future__ import annotations

from collections.abc import Sequence

from edgecr.core.estimate import Estimate
from edgecr.runners.fitness.jetson import grown
from edgecr.runners.measurement.energy import SCOPES, UNASKED, NoEnergy, Spent, idle_watts, spent_in, total_in
from edgecr.runners.measurement.readings import BoardState, Watched
from edgecr.runners.measurement.record import Launch, Measurement
from edgecr.runners.measurement.statistics import over_launches, paired_ratio

SHARED_ENERGY = "{reason}: the energy of other programs would be counted as the model's"
NO_IDLE = "not measured: the idle board's power was not read for long enough (power.idle_s)"
BELOW_IDLE = "not measured: the board took no more power than while it was idle"


def energy_figures(
    measurement: Measurement,
    arm: int,
    calm: Sequence[Launch],
    disturbed: str,
    reasons: dict[str, str],
    confidence: float,
) -> dict[str, Estimate | None]:
    """Millijoules of one inference, as they are and beyond those of the idle board; absent ones with the reason."""
    absent: dict[str, Estimate | None] = {"energy_mj": None, "energy_net_mj": None}
    why = _unread(measurement)
    if not why and not calm:
        why = measurement.error or (SHARED_ENERGY.format(reason=disturbed) if disturbed else "nothing was timed")
    if not why:
        try:
            used = [spent_in(measurement, launch, arm) for launch in calm]
            return _figures(measurement, calm[0], used, reasons, confidence)
        except NoEnergy as error:
            why = str(error)
    reasons |= dict.fromkeys(absent, why)
    return absent


def _unread(measurement: Measurement) -> str:
    """The reason why there was no power to read, whatever else happened; empty where some was read, or nothing ran."""
    if measurement.device.power is None:
        return UNASKED
    reasons = []
    for launch in measurement.launches:
        try:
            total_in(measurement, launch)
        except NoEnergy as error:
            reasons.append(str(error))
    return reasons[0] if reasons and len(reasons) == len(measurement.launches) else ""


def _figures(
    measurement: Measurement, launch: Launch, used: list[Spent], reasons: dict[str, str], confidence: float
) -> dict[str, Estimate | None]:
    total = total_in(measurement, launch)
    readings = sum(one.readings for one in used)
    scope = f"of {SCOPES[total.scope]} ({' + '.join(total.rails)})"
    whole = over_launches([one.per_call for one in used], "mJ", readings, scope, confidence)
    watts = idle_watts(measurement, total)
    net = [one.above(watts) for one in used] if watts is not None else []
    if not net or min(net) <= 0:
        reasons["energy_net_mj"] = BELOW_IDLE if net else NO_IDLE
        return {"energy_mj": whole, "energy_net_mj": None}
    idle = f"{scope}, without the idle board's {watts:.2f} W"
    return {"energy_mj": whole, "energy_net_mj": over_launches(net, "mJ", readings, idle, confidence)}


def energy_ratio(
    measurement: Measurement, base: int, candidate: int, launches: Sequence[Launch], confidence: float
) -> Estimate | None:
    """Candidate / baseline from launches in which both could be told; None where they cannot."""
    pairs = []
    for launch in launches:
        try:
            old, new = (spent_in(measurement, launch, arm).per_call for arm in (base, candidate))
        except NoEnergy:
            return None
        pairs.append([(old, new)])
    return paired_ratio(pairs, confidence) if pairs else None


def board_memory(watched: Watched) -> Estimate | None:
    """Megabytes that were free before a process and not at its peak: those of the GPU, which shares them, too."""
    free = [kb for each in watched.free for kb in each.kb]
    if not watched.states or watched.states[0].available_kb is None or not free:
        return None
    taken = watched.states[0].available_kb - min(free)
    return Estimate(max(taken, 0) * 1024 / 1e6, unit="MB", samples=len(free), note="other programs' changes included")


def over_current_in(watched: Watched) -> str:
    """The over-current events during a job, as a reason not to believe its times; empty if there were none."""
    states = watched.states
    events = grown(dict(states[0].over_current), dict(states[-1].over_current)) if states else ""
    return f"the board was slowed down by {events}" if events else ""


def course(states: Sequence[BoardState]) -> str:
    """The change of the hottest zone and of the GPU's clock from the first to the last state; empty if unknown."""
    if len(states) < 2:
        return ""
    first, last = states[0], states[-1]
    found = []
    hottest = max(last.temperatures, key=lambda zone: last.temperatures[zone], default="")
    if hottest in first.temperatures:
        found.append(f"{hottest} {first.temperatures[hottest]:.0f} to {last.temperatures[hottest]:.0f} C")
    if first.gpu_hz and last.gpu_hz:
        found.append(f"GPU {first.gpu_hz / 1e6:.0f} to {last.gpu_hz / 1e6:.0f} MHz")
    if first.cpu_khz and last.cpu_khz:
        found.append(f"CPU {first.cpu_khz / 1e3:.0f} to {last.cpu_khz / 1e3:.0f} MHz")
    return ", ".join(found)
