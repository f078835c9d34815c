"""Builds a result from what the stages of a run left behind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from edgecr.estimate import Estimate
from edgecr.exporters.base import Artifact
from edgecr.report.evidence import place, ratio_of
from edgecr.report.figures import RATIO, interval, with_unit
from edgecr.report.gates import Gate, judge, level, verdict
from edgecr.report.result import (
    BASELINE,
    CANDIDATE,
    MEAN,
    AccuracyRow,
    ExportRow,
    LatencyRow,
    ModelRow,
    Result,
    StepRow,
    Timing,
)
from edgecr.robustness.examples import Example
from edgecr.robustness.result import RobustnessResult
from edgecr.robustness.suites import CLEAN


class ArmSummary(Protocol):
    """The statistics of one arm of a measurement, as the runners derive them."""

    @property
    def label(self) -> str:
        """The role."""

    @property
    def batch(self) -> int:
        """Images a call."""

    @property
    def p50(self) -> Estimate | None:
        """Median latency in ms."""

    @property
    def p90(self) -> Estimate | None:
        """90th percentile in ms."""

    @property
    def p99(self) -> Estimate | None:
        """99th percentile in ms."""

    @property
    def throughput(self) -> Estimate | None:
        """Images a second."""

    @property
    def peak_memory_mb(self) -> Estimate | None:
        """Peak memory of the process."""

    @property
    def load_ms(self) -> Estimate | None:
        """Time to load the file."""

    @property
    def first_ms(self) -> Estimate | None:
        """Time of the first call."""


def build_result(
    *, name: str, id: str, gates: Mapping[str, Gate],
    models: Sequence[ModelRow] = (), exports: Sequence[ExportRow] = (),
    latency: Sequence[LatencyRow] = (), robustness: Sequence[RobustnessResult] = (),
    steps: Sequence[StepRow] = (), examples: Sequence[Example] = (), warnings: Sequence[str] = (),
    purpose: str = "", recipe: str = "", created: str = "", environment: Mapping[str, str] | None = None,
) -> Result:
    """One result, judged; whatever is left out is missing, and what is missing never passes a gate."""
    accuracy = [row for answered in robustness for row in accuracy_rows(answered, gates)]
    unjudged = Result(
        name=name, id=id, purpose=purpose, recipe=recipe, created=created,
        environment=dict(environment or {}),
        warnings=[*slower(latency), *receipt_warnings(exports), *warnings], models=list(models),
        accuracy=accuracy, latency=list(latency), exports=list(exports), steps=list(steps),
        examples=list(examples),
    )
    judged = judge(gates, unjudged)
    return replace(unjudged, gates=judged, verdict=verdict(judged))


def accuracy_rows(answered: RobustnessResult, gates: Mapping[str, Gate]) -> list[AccuracyRow]:
    """Every condition of a suite, then their mean, at the confidence that the gates ask for."""
    suite = answered.suite
    rows = [_condition_row(answered, CLEAN, level(gates, "clean_accuracy"))]
    for condition in answered.corruptions:
        rows.append(_condition_row(answered, condition, level(gates, f"{suite}_{condition}_accuracy")))
    if answered.corruptions:
        rows.append(_mean_row(answered, level(gates, f"{suite}_accuracy")))
    return rows


def _condition_row(answered: RobustnessResult, condition: str, confidence: float) -> AccuracyRow:
    found = {role: answered.accuracy(role, condition, confidence) for role in answered.roles}
    delta = answered.delta(condition, confidence) if {BASELINE, CANDIDATE} <= found.keys() else None
    return AccuracyRow(answered.suite, condition, found.get(BASELINE), found.get(CANDIDATE), delta)


def _mean_row(answered: RobustnessResult, confidence: float) -> AccuracyRow:
    found = {role: answered.mean_accuracy(role, confidence) for role in answered.roles}
    delta = answered.mean_delta(confidence) if {BASELINE, CANDIDATE} <= found.keys() else None
    return AccuracyRow(answered.suite, MEAN, found.get(BASELINE), found.get(CANDIDATE), delta)


def latency_rows(
    device: str, summaries: Iterable[ArmSummary], ratios: Mapping[int, Mapping[str, Estimate]],
    batches: Iterable[int] = (), error: str = "",
) -> list[LatencyRow]:
    """One row for each batch size; those in ``batches`` that nobody measured get a row that says so."""
    arms: dict[int, dict[str, Timing]] = {batch: {} for batch in batches}
    for each in summaries:
        arms.setdefault(each.batch, {})[each.label] = Timing(
            each.p50, each.p90, each.p99, each.throughput, each.peak_memory_mb, each.load_ms, each.first_ms)
    if not arms:
        return [LatencyRow(device, None, error=error or "nothing was measured")]
    return [LatencyRow(device, batch, found, dict(ratios.get(batch, {})), error if not found or error else "")
            for batch, found in sorted(arms.items())]


def export_row(artifact: Artifact) -> ExportRow:
    """What the report says of an artifact; its lineage knows the role."""
    role = str(artifact.lineage.get("role", CANDIDATE))
    return ExportRow(role, artifact.target, artifact.path.name, artifact.format, artifact.precision,
                     artifact.size_bytes, artifact.sha256, dict(artifact.parity), dict(artifact.receipt))


def slower(latency: Iterable[LatencyRow]) -> Iterator[str]:
    """The warning that comes first: compression that costs time."""
    for row in latency:
        ratio = ratio_of(row, "p50")
        if ratio is not None and ratio.value > 1:
            sure = ratio.low is not None and ratio.low > 1
            doubt = "" if sure else "; the interval does not exclude that it is equally fast"
            figure = f"{with_unit(ratio.value, RATIO)} {interval(ratio, RATIO)}".rstrip()
            yield (f"The exported candidate is slower than its baseline on {place(row.device, row.batch)}: "
                   f"{figure} of the baseline's median latency{doubt}.")


def receipt_warnings(exports: Iterable[ExportRow]) -> list[str]:
    """What the receipts remark although the files are as promised."""
    return [f"{row.file}: {text}" for row in exports for text in row.receipt.get("warnings", [])]
