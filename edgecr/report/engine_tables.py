"""The tables of TensorRT's engines: how a board built them, and which of their layers take the time."""

from __future__ import annotations

from collections.abc import Iterator

from edgecr.report.gates.evidence import place_in
from edgecr.report.numbers import MILLISECONDS, PERCENT, size, with_unit
from edgecr.report.result import EngineRow, LayerRow, Result
from edgecr.report.table import Table

UNTOLD = "not told"
SHOWN = 10
"""Layers of an engine that are worth a row."""


def engine_tables(result: Result) -> list[Table]:
    """The engines, and their slowest layers; tables without rows where there are no engines."""
    return [engine_table(result), layer_table(result)]


def engine_table(result: Result) -> Table:
    """Each engine as it was built on the board."""
    rows = tuple(
        (
            where,
            role,
            f"TensorRT {engine.tensorrt}, {engine.gpu} ({engine.capability})",
            f"{engine.seconds:.0f} s{', before' if engine.cached else ''}",
            size(engine.size_bytes),
            "not asked" if engine.agreement is None else f"{with_unit(engine.agreement, PERCENT)} of {engine.images}",
            UNTOLD if engine.device_mib is None else f"{engine.device_mib:.1f} MiB",
            UNTOLD if engine.wall_ms is None else with_unit(engine.wall_ms, MILLISECONDS),
            UNTOLD if engine.reformats is None else with_unit(engine.reformats, PERCENT),
            ", ".join(f"{name} {with_unit(share, PERCENT)}" for name, share in engine.precisions.items()) or UNTOLD,
        )
        for where, role, engine in _engines(result)
    )
    head = (
        "where",
        "role",
        "built by",
        "in",
        "size",
        "same answer",
        "memory",
        "host time",
        "reformats",
        "time by precision",
    )
    return Table("Engines", head, rows, NOTE)


NOTE = (
    "'Before' marks an engine that the board had kept. 'Same answer' is the share of the file's own proof images. "
    "Latencies are the processor's own time; host time is from call to call on the host. Memory is what an inference "
    "takes beside the engine. Reformats and precisions are shares of the layers' time, taken in a run of its own; "
    "a layer's precision is the number format that it reads."
)


def layer_table(result: Result) -> Table:
    """The slowest layers of each engine."""
    rows = tuple(
        (
            where,
            role,
            layer.name,
            layer.kind or UNTOLD,
            layer.precision or UNTOLD,
            with_unit(layer.ms, MILLISECONDS),
            with_unit(layer.ms / engine.layers_ms, PERCENT),
        )
        for where, role, engine in _engines(result)
        for layer in _slowest(engine)
    )
    head = ("where", "role", "layer", "kind", "reads", "time", "share")
    return Table("Slowest layers", head, rows, f"Up to {SHOWN} layers of each engine; in one inference.")


def _engines(result: Result) -> Iterator[tuple[str, str, EngineRow]]:
    """Each engine once, where it was first measured."""
    for row in result.latency:
        for role, timing in row.arms.items():
            if timing.engine:
                yield place_in(result, row), role, timing.engine


def _slowest(engine: EngineRow) -> list[LayerRow]:
    return sorted(engine.layers, key=lambda layer: -layer.ms)[:SHOWN] if engine.layers_ms else []
