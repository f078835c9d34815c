"""A measurement as rows of the report: one for each batch size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from edgecr.core.estimate import Estimate
from edgecr.report.gates.judge import Gate, level
from edgecr.report.result import BASELINE, CANDIDATE, EngineRow, LatencyRow, LayerRow, MinuteRow, Timing
from edgecr.runners.base import Measurement
from edgecr.runners.measurement.completeness import shortfall
from edgecr.runners.measurement.identity import identity_of
from edgecr.runners.measurement.summary import PERCENTILES, ArmSummary, compare, summarise
from edgecr.runners.measurement.sustained import Course, course_of, withheld_course
from edgecr.runners.measurement.units import disagreements, told_by_units
from edgecr.runners.tensorrt.engine import Engine

NO_GATES: Mapping[str, Gate] = MappingProxyType({})


def latency_rows(measurement: Measurement, gates: Mapping[str, Gate] = NO_GATES) -> list[LatencyRow]:
    """One row for each batch size, with the paired ratios where both roles were measured.

    Intervals are at the confidence that the gates ask for.
    """
    levels = {percent: level(gates, f"latency_p{percent}") for percent in PERCENTILES}
    energy = level(gates, "energy")
    device, error = measurement.device.name, measurement.error or ""
    arms: dict[int, dict[str, Timing]] = {}
    engines = {engine.arms[0]: engine for engine in measurement.engines if engine.arms}
    for number, each in enumerate(summarise(measurement, levels, energy)):
        arms.setdefault(each.batch, {})[each.label] = _timing(each, engines.get(number))
    ratios: dict[int, dict[str, Estimate]] = {}
    if {BASELINE, CANDIDATE} <= {arm.label for arm in measurement.arms}:
        for pair in compare(measurement, BASELINE, CANDIDATE, levels[50], energy):
            both = {"p50": pair.ratio, "cpu": pair.cpu_ratio, "energy": pair.energy_ratio}
            ratios[pair.batch] = {name: ratio for name, ratio in both.items() if ratio is not None}
    partial = "; ".join(filter(None, [shortfall(measurement), *disagreements(measurement)]))
    doubts, identity = [*measurement.warnings, *told_by_units(measurement)], identity_of(measurement)
    rows = []
    for batch, timings in sorted(arms.items()):
        told = [*doubts, *filter(None, [withheld_course(measurement, batch)])]
        row = LatencyRow(device, batch, timings, ratios.get(batch, {}), error, partial, told, identity=identity)
        rows.append(_with_course(row, course_of(measurement, batch)))
    return rows


def _with_course(row: LatencyRow, course: Course | None) -> LatencyRow:
    """The row with its minutes, where the measurement took several."""
    if course is None:
        return row
    minutes = [
        MinuteRow(
            one.number,
            {label: one.ms[arm] for arm, label in course.labels.items()},
            one.temperature_c,
            one.gpu_mhz,
            one.cpu_mhz,
            one.events,
        )
        for one in course.minutes
    ]
    return replace(row, minutes=minutes, course=course.conclusion)


FIELDS = {
    "p50_ms": "p50",
    "p90_ms": "p90",
    "p99_ms": "p99",
    "throughput": "throughput",
    "peak_memory_mb": "memory",
    "board_memory_mb": "board_memory",
    "energy_mj": "energy",
    "energy_net_mj": "energy_net",
    "load_ms": "load",
    "first_ms": "first",
    "cpu_ms": "cpu",
}
"""Names of the measurer's figures, and of the same ones in the report."""


def _timing(arm: ArmSummary, engine: Engine | None) -> Timing:
    figures = {name: getattr(arm, source) for source, name in FIELDS.items()}
    missing = {FIELDS[source]: reason for source, reason in arm.missing.items() if source in FIELDS}
    return Timing(**figures, missing=missing, doubts=list(arm.warnings), engine=_engine(engine) if engine else None)


def _engine(engine: Engine) -> EngineRow:
    return EngineRow(
        tensorrt=engine.tensorrt,
        gpu=engine.gpu,
        capability=engine.capability,
        seconds=engine.seconds,
        cached=engine.cached,
        size_bytes=engine.size_bytes,
        device_mib=engine.device_mib,
        wall_ms=engine.wall_ms,
        images=engine.parity.images if engine.parity else 0,
        agreement=engine.parity.agreement if engine.parity else None,
        reformats=engine.reformat_share,
        precisions=engine.precision_shares(),
        layers=[LayerRow(layer.name, layer.kind, layer.precision, layer.ms) for layer in engine.layers],
    )
