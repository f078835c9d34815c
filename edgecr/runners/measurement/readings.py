"""The raw readings that were taken beside a job: power, free memory, and the state of the board."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from edgecr.core.options import Options
from edgecr.runners.agent.events import Event, cleaned, read_as

Moment = Annotated[int, Field(ge=0, lt=2**63)]
"""Nanoseconds of the clock that also stamps the rounds."""
Amount = Annotated[int, Field(ge=0, lt=2**63)]
Reading = Annotated[float, Field(ge=-1e15, le=1e15)]
"""A sensor's value; more than that no sensor tells, and sums and squares of it stay numbers."""


class PowerReadings(Options):
    """Power of every rail (``mw``), or the energy that went through it so far (``uj``); None: it could not be read."""

    unit: Literal["mw", "uj"]
    at_ns: tuple[Moment, ...]
    rails: dict[str, tuple[Reading | None, ...]]

    @model_validator(mode="after")
    def _of_one_length(self) -> Self:
        if any(len(values) != len(self.at_ns) for values in self.rails.values()):
            raise ValueError("a rail has another number of readings than there are moments")
        if list(self.at_ns) != sorted(self.at_ns):
            raise ValueError("the moments are not in order")
        return self


class FreeMemory(Options):
    """The memory that programs could still have, in kilobytes."""

    at_ns: tuple[Moment, ...]
    kb: tuple[Amount, ...]


class BoardState(Options):
    """Temperatures, clocks and throttling at one moment; None where the board does not tell."""

    at_ns: Moment
    temperatures: dict[str, Reading] = Field(default_factory=dict)
    cpu_khz: Amount | None = None
    gpu_hz: Amount | None = None
    over_current: dict[str, Amount] = Field(default_factory=dict)
    """Events since boot, by kind."""
    throttle_count: Amount | None = None
    throttle_flags: Amount | None = None
    available_kb: Amount | None = None


class Sensor(Options):
    """The sensor that was read, or the reason why there is none."""

    source: str | None = None
    reason: str = ""


class Unwatched(Options):
    """The failure that ended the readings; the job itself went on."""

    message: str


class Watched(Options):
    """Everything that was read beside one job."""

    sensor: Sensor = Sensor()
    power: tuple[PowerReadings, ...] = ()
    free: tuple[FreeMemory, ...] = ()
    states: tuple[BoardState, ...] = ()
    failure: str = ""

    @classmethod
    def of(cls, events: list[Event]) -> Self:
        """The readings among the events of a job, checked."""
        failures = _named(Unwatched, events, "unwatched")
        return cls(
            sensor=next(iter(_named(Sensor, events, "sensor")), Sensor()),
            power=_named(PowerReadings, events, "power"),
            free=_named(FreeMemory, events, "free"),
            states=_named(BoardState, events, "state"),
            failure=failures[0].message if failures else "",
        )


def _named(kind: Any, events: list[Event], name: str) -> Any:
    return tuple(read_as(kind, cleaned(event)) for event in events if event["event"] == name)
