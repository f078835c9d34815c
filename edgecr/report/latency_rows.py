"""A measurement as rows of the report: one for each batch size."""

from __future__ import annotations

from edgecr.report.result import BASELINE, CANDIDATE, LatencyRow, Timing
from edgecr.runners.base import Measurement
from edgecr.runners.measure.completeness import shortfall
from edgecr.runners.measure.summary import ArmSummary, compare, summarise


def latency_rows(measurement: Measurement) -> list[LatencyRow]:
    """One row for each batch size, with the paired ratios where both roles were measured."""
    device, error = measurement.device.name, measurement.error or ""
    arms: dict[int, dict[str, Timing]] = {}
    for each in summarise(measurement):
        arms.setdefault(each.batch, {})[each.label] = _timing(each)
    ratios = {}
    if {BASELINE, CANDIDATE} <= {arm.label for arm in measurement.arms}:
        ratios = {each.batch: each.ratio for each in compare(measurement, BASELINE, CANDIDATE)}
    partial = shortfall(measurement)
    return [
        LatencyRow(device, batch, timings, {"p50": ratio} if (ratio := ratios.get(batch)) else {}, error, partial)
        for batch, timings in sorted(arms.items())
    ]


def _timing(arm: ArmSummary) -> Timing:
    return Timing(arm.p50_ms, arm.p90_ms, arm.p99_ms, arm.throughput, arm.peak_memory_mb, arm.load_ms, arm.first_ms)
