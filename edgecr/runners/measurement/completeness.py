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
    short = [done for launch in launches if (done := _too_few(launch, len(measurement.arms), protocol)) is not None]
    if short:
        found.append(f"{min(short)} of {protocol.rounds} rounds in {len(short)} of {len(launches)} launches")
    found += [f"unit {other.unit}: {lack}" for other in measurement.others if (lack := shortfall(other))]
    return "; ".join(found)


def _too_few(launch: Launch, arms: int, protocol: Protocol) -> int | None:
    """The number of rounds in which every arm had its turn, if they are fewer than they should be."""
    turns = [{one.number for one in launch.rounds if one.arm == arm} for arm in range(arms)]
    whole = set[int].intersection(*turns) if turns else set[int]()
    by_the_clock = launch.ended == "time" and len(whole) >= protocol.least_rounds
    enough = set[int]().union(*turns) == whole and (len(whole) >= protocol.rounds or by_the_clock)
    return None if enough else len(whole)
