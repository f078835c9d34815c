"""Tells a whole measurement from one that broke off: by its launches and rounds, not only by its error."""

from __future__ import annotations

from edgecr.runners.device import Protocol
from edgecr.runners.measurement.record import Launch, Measurement


def shortfall(measurement: Measurement) -> str:
    """The launches and rounds that the protocol asked for and that are missing, in words; empty if complete."""
    protocol, launches = measurement.device.protocol, measurement.launches
    found = [measurement.error.rstrip(".")] if measurement.error else []
    if len(launches) < protocol.launches:
        found.append(f"{len(launches)} of {protocol.launches} launches")
    short = [done for launch in launches if (done := _least_turns(launch, len(measurement.arms), protocol)) is not None]
    if short:
        found.append(f"{min(short)} of {protocol.rounds} rounds in {len(short)} of {len(launches)} launches")
    found += [f"unit {other.unit}: {lack}" for other in measurement.others if (lack := shortfall(other))]
    return "; ".join(found)


def _least_turns(launch: Launch, arms: int, protocol: Protocol) -> int | None:
    """The rounds of the arm that had fewest, if they are fewer than they should be."""
    turns = [sum(one.arm == arm for one in launch.rounds) for arm in range(arms)]
    least = min(turns, default=0)
    by_the_clock = launch.ended == "time" and least >= protocol.least_rounds
    enough = max(turns, default=0) == least and (least >= protocol.rounds or by_the_clock)
    return None if enough else least
