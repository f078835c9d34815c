"""The record of a measurement: raw samples, units and machine facts as versioned JSON; statistics are derived."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import Self

from edgecr.core.files import read_json, refused_as, write_json
from edgecr.core.options import Options
from edgecr.runners.device import Device
from edgecr.runners.measurement.readings import Watched
from edgecr.runners.tensorrt.engine import Engine

Count = Annotated[int, Field(ge=0, lt=2**63)]
Nanoseconds = Count


class MeasuredArm(Options):
    """The subject of a measurement: one file in one runtime with one batch size."""

    label: str
    file: str
    sha256: str
    size_bytes: int
    runtime: str
    batch: int


class Counted(Options):
    """The kernel's counters over a span of time; None where it does not report them."""

    run_ns: Nanoseconds | None = None
    """Time that all threads of the process spent on a processor."""
    wait_ns: Nanoseconds | None = None
    """Time that they waited for one."""
    switches: Count | None = None
    """Involuntary context switches."""
    steal: Count | None = None
    """Clock ticks that the hypervisor gave to others, all cores together."""


class Program(Counted):
    """The whole life of a program that timed, of which the timed calls are only a part."""

    elapsed_ns: Annotated[int, Field(gt=0, lt=2**63)]


class Round(Counted):
    """One turn of one arm: raw times of back-to-back calls, and who else wanted the processor."""

    arm: int
    number: Count
    start_ns: Nanoseconds
    ns: Annotated[tuple[Nanoseconds, ...], Field(min_length=1)]
    program: Program | None = None
    """The counters of the program that timed, where they cannot be told for the calls alone."""
    wall_ns: Nanoseconds | None = None
    """The duration on the host, where the times are those of another processor, which waits between calls."""

    @property
    def elapsed_ns(self) -> int:
        """The time of all calls."""
        return sum(self.ns)

    @property
    def window_ns(self) -> int:
        """The duration of the turn."""
        return self.elapsed_ns if self.wall_ns is None else self.wall_ns


class Start(Options):
    """The start of one arm in a fresh process: import, load, first inference, memory; None where nobody tells."""

    arm: int
    import_ns: Nanoseconds | None
    load_ns: Nanoseconds | None
    first_ns: Nanoseconds | None
    memory_kb: dict[str, Count | None]
    """Peak memory of the process: empty, imported, loaded, inferred."""
    info: dict[str, Any]
    """The runtime's description of itself: version, providers, settings."""


class Warmth(Options):
    """The course of one arm's warm-up."""

    arm: int
    steady: bool
    calls: Count
    medians_ns: tuple[Nanoseconds, ...]


class Ended(Options):
    """The end of the rounds of a launch: all of them were done, or their time was used up."""

    reason: Literal["rounds", "time"]


class Launch(Options):
    """One fresh process in which all arms were timed, interleaved."""

    starts: tuple[Start, ...] = ()
    warmups: tuple[Warmth, ...] = ()
    rounds: tuple[Round, ...] = ()
    ended: Literal["rounds", "time"] | None = None
    """The limit at which the agent stopped, between two rounds; None if it never came to tell."""
    watched: Watched = Watched()
    """Power and the state of the board meanwhile."""


class Rate(Counted):
    """The number of calls that ran in a span of time with a given number of streams."""

    arm: int
    streams: Count
    calls: Count
    elapsed_ns: Annotated[int, Field(gt=0, lt=2**63)]
    program: Program | None = None
    """The counters of the program that timed, where they cannot be told for the calls alone."""


class Alone(Options):
    """One arm that had a process to itself: its memory and its throughput."""

    start: Start
    rates: tuple[Rate, ...] = ()
    watched: Watched = Watched()
    """Free memory and the state of the board meanwhile."""


class NodeTime(Options):
    """One layer of an arm in a profiled session: microseconds of each call, the slower first ones included."""

    arm: int
    name: str
    op: str
    us: Annotated[tuple[Annotated[float, Field(ge=0, le=1e12)], ...], Field(min_length=1)]


class Measurement(Options):
    """Everything one measurement brought home; ``error`` says why it is not complete."""

    schema_version: Literal[1] = 1
    device: Device
    seed: int
    arms: tuple[MeasuredArm, ...]
    facts: dict[str, Any] = Field(default_factory=dict)
    """The board before measuring."""
    facts_after: dict[str, Any] = Field(default_factory=dict)
    """The board after measuring."""
    idle: Watched | None = None
    """The power of the idle board, read before anything else."""
    launches: tuple[Launch, ...] = ()
    alone: tuple[Alone, ...] = ()
    layers: tuple[NodeTime, ...] = ()
    """Every layer's time, where it was asked for."""
    engines: tuple[Engine, ...] = ()
    """The engines of TensorRT that were measured."""
    warnings: tuple[str, ...] = ()
    error: str | None = None
    unit: str | None = None
    """The one of the device's units that this was measured on, where it has several."""
    others: tuple[Measurement, ...] = ()
    """The same plan on the other units, each with a baseline of its own."""

    def save(self, path: Path) -> None:
        """Writes the measurement, atomically."""
        write_json(path, self.model_dump(mode="json"))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a saved measurement."""
        with refused_as(f"{path} is not a measurement that this version can read"):
            return cls.parse(read_json(path))
