"""The columns of the table of speeds: those of every measurement, and those that only some can fill."""

from __future__ import annotations

from collections.abc import Iterator

from edgecr.core.absent import UNASKED
from edgecr.report.gates.evidence import place
from edgecr.report.numbers import MEGABYTES, MILLIJOULES, MILLISECONDS, RATE, Scale
from edgecr.report.result import LatencyRow, MinuteRow, Result
from edgecr.runners.measurement.identity import RUNTIME

Column = tuple[str, str, Scale]
ALWAYS: tuple[Column, ...] = (
    ("p50", "p50", MILLISECONDS),
    ("p90", "p90", MILLISECONDS),
    ("p99", "p99", MILLISECONDS),
    ("cpu", "CPU time", MILLISECONDS),
    ("throughput", "throughput", RATE),
    ("memory", "peak memory", MEGABYTES),
)
BOARD: tuple[Column, ...] = (("board_memory", "of the board", MEGABYTES),)
ENERGY: tuple[Column, ...] = (("energy", "energy", MILLIJOULES), ("energy_net", "above idle", MILLIJOULES))
BOARD_MEMORY = (
    'Memory "of the board" is what the whole board had less of meanwhile: of a GPU that shares it too, and of others.'
)


def columns(result: Result) -> tuple[Column, ...]:
    """The columns that some measurement fills, or was asked to fill."""
    arms = [arm for row in result.latency for arm in row.arms.values()]
    board = any(arm.board_memory for arm in arms)
    powered = any(arm.energy or arm.missing.get("energy", UNASKED) != UNASKED for arm in arms)
    return (*ALWAYS, *(BOARD if board else ()), *(ENERGY if powered else ()))


def notes(result: Result) -> str:
    """Sentences about the columns that are not always there; empty if none of them is."""
    shown = {name for name, _, _ in columns(result)}
    return " ".join([*([BOARD_MEMORY] if "board_memory" in shown else ()), *_scopes(result)])


def place_and_runtime(result: Result, row: LatencyRow) -> str:
    """The place of a row with the runtime that timed, which decides on a board what computed; where it is told."""
    return place(", ".join([row.device, *runtime_names(row)]), row.batch, result.label(row.target))


def runtime_names(row: LatencyRow) -> list[str]:
    """The runtimes of a row without their versions."""
    told = row.identity.get(RUNTIME, "")
    return list(dict.fromkeys(one.split(" ")[0] for one in told.split(", ") if one))


STATE_HEAD = ("hottest", "clocks", "throttling")


def state_cells(minute: MinuteRow) -> tuple[str, str, str]:
    """The state of the board in one minute of a long measurement."""
    heat = "not told" if minute.temperature_c is None else f"{minute.temperature_c:.0f} C"
    known = (("GPU", minute.gpu_mhz), ("CPU", minute.cpu_mhz))
    clocks = [f"{name} {value:,.0f} MHz" for name, value in known if value is not None]
    return heat, ", ".join(clocks) or "not told", minute.events or "none told"


def _scopes(result: Result) -> Iterator[str]:
    """The part of each device whose energy was read."""
    found = {row.device: arm.energy.note for row in result.latency for arm in row.arms.values() if arm.energy}
    for device, scope in found.items():
        yield f"Energy of one inference on {device} is that {scope}."
