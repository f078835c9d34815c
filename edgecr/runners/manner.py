"""The manner of a measurement: how long, with which streams, and whether a board in another state is measured too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from edgecr.core.errors import RequestError
from edgecr.runners.device import Protocol

LengthName = Literal["quick", "standard", "sustained", "mlperf"]
MLPERF_S = 600.0
"""The least duration of MLPerf's single-stream scenario; the rest of its rules is not followed."""
LONG_TURN_S = 1.0
ENOUGH_ROUNDS = 100_000
"""The clock ends a long measurement, not the number of its rounds."""


@dataclass(frozen=True)
class Length:
    """A preset of the protocol; ``minutes`` belongs to a sustained one."""

    name: LengthName
    minutes: float | None = None

    def __post_init__(self) -> None:
        if (self.minutes is not None) != (self.name == "sustained"):
            raise RequestError("A sustained measurement, and no other, has a number of minutes.")
        if self.minutes is not None and not 2 <= self.minutes <= 24 * 60:
            raise RequestError(f"A sustained measurement takes 2 minutes to a day (got {_minutes(self.minutes)}).")

    def applied(self, protocol: Protocol) -> Protocol:
        """The protocol of a device with the extent of this preset."""
        return protocol.parse(protocol.model_dump(mode="json") | self._extent(protocol.round_s))

    def _extent(self, own_round_s: float) -> dict[str, Any]:
        if self.name == "quick":
            return {"launches": 3, "rounds": 10, "round_s": 0.1, "max_s": 4.0}
        if self.name == "standard":
            return {
                "launches": 5,
                "rounds": 30,
                "round_s": max(0.3, own_round_s),
                "max_s": max(120.0, 400 * own_round_s),
            }
        seconds = MLPERF_S if self.minutes is None else self.minutes * 60
        return {"launches": 1, "rounds": ENOUGH_ROUNDS, "round_s": LONG_TURN_S, "max_s": seconds}


def _minutes(count: float) -> str:
    return f"{count:g} minute{'' if count == 1 else 's'}"


@dataclass(frozen=True)
class Manner:
    """Everything about a measurement that is neither the device's nor a count; its defaults change nothing."""

    length: Length | None = None
    streams: tuple[int, ...] = ()
    """Numbers of streams to measure throughput with, in place of the device's."""
    layers: bool = False
    """True to have the time of every layer told, in a session of its own."""
    force: bool = False
    """Measure although the board is not as its file expects; each difference is a warning in the result."""

    @property
    def usual(self) -> bool:
        """True if nothing was wished for."""
        return self == Manner()

    def plain(self) -> dict[str, Any]:
        """The wishes as plain JSON values, those that change nothing left out."""
        values = {"layers": self.layers, "force": self.force, "streams": list(self.streams)}
        length = {"length": vars(self.length)} if self.length else {}
        return {name: value for name, value in values.items() if value} | length

    def applied(self, protocol: Protocol) -> Protocol:
        """The protocol of a device as it is wished for."""
        longer = self.length.applied(protocol) if self.length else protocol
        if not self.streams:
            return longer
        seconds = longer.throughput.seconds if longer.throughput else 3.0
        return longer.parse(
            longer.model_dump(mode="json") | {"throughput": {"seconds": seconds, "streams": list(self.streams)}}
        )


USUAL = Manner()
