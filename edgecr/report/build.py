"""Builds a result from what the stages of a run left behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from edgecr.exporters.base import Artifact
from edgecr.report.candidates import idle_siblings, judge_candidates, name_of, run_verdict, slower_siblings
from edgecr.report.gates.evidence import by_chance, perhaps_by_chance, place, ratio_of, ruined
from edgecr.report.gates.judge import Gate, level, settle, verdict
from edgecr.report.gates.quantities import CLEAN_GATES, Kind, suite_gates
from edgecr.report.headline import claim
from edgecr.report.numbers import RATIO, interval, with_unit
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
)
from edgecr.robustness.conditions import CLEAN
from edgecr.robustness.examples import Example
from edgecr.robustness.result import RobustnessResult


def build_result(
    *,
    name: str,
    id: str,
    gates: Mapping[str, Gate],
    models: Sequence[ModelRow] = (),
    exports: Sequence[ExportRow] = (),
    latency: Sequence[LatencyRow] = (),
    robustness: Sequence[RobustnessResult] = (),
    accuracy: Sequence[AccuracyRow] = (),
    steps: Sequence[StepRow] = (),
    examples: Sequence[Example] = (),
    warnings: Sequence[str] = (),
    purpose: str = "",
    recipe: str = "",
    created: str = "",
    environment: Mapping[str, str] | None = None,
    unverified: Mapping[str, str] | None = None,
    apart: Sequence[str] = (),
    allow_partial: bool = False,
    prefer: str = "latency",
    labelled: bool = True,
    title: str = "",
) -> Result:
    """One result, judged; whatever is left out is missing, and what is missing never passes a gate.

    ``accuracy`` are rows that stand before those of ``robustness``; ``unverified`` says which files of the rows'
    evidence are not what the run wrote; ``apart`` lies in the folder and is not judged; ``allow_partial`` has
    incomplete measurements judged all the same; ``labelled`` is False where no accuracy exists.
    """
    answers = [row for answered in robustness for row in accuracy_rows(answered, gates)]
    unjudged = Result(
        name=name,
        id=id,
        purpose=purpose,
        recipe=recipe,
        created=created,
        environment=dict(environment or {}),
        unverified=dict(unverified or {}),
        apart=list(apart),
        prefer=prefer,
        labelled=labelled,
        title=title,
        models=list(models),
        accuracy=[*accuracy, *answers],
        latency=list(latency),
        exports=list(exports),
        steps=list(steps),
        examples=list(examples),
    )
    candidates, judged = judge_candidates(gates, unjudged, allow_partial)
    if not unjudged.many:
        judged = settle(gates, unjudged.only(unjudged.targets[0]), allow_partial) if gates else []
    known = replace(
        unjudged,
        candidates=candidates,
        gates=judged,
        verdict=run_verdict(candidates) if unjudged.many else verdict(judged),
    )
    told = [
        *chances(known),
        *slower_siblings(known),
        *idle_siblings(known),
        *slower(known),
        *failures(known),
        *receipt_warnings(known),
        *warnings,
    ]
    return replace(known, warnings=told)


def accuracy_rows(answered: RobustnessResult, gates: Mapping[str, Gate]) -> list[AccuracyRow]:
    """Every condition of a suite and their means, each at the confidence that its gates ask for."""
    names = {
        kind: {clean: CLEAN} | suite_gates(answered.suite, answered.answers, kind)
        for kind, clean in CLEAN_GATES.items()
    }
    chance = answered.task.chance(answered.labels) if answered.labelled else None
    rows = []
    for figure in answered.figures:
        asked = {
            kind: level(gates, *(name for name, row in known.items() if row == figure)) for kind, known in names.items()
        }
        row = _row(answered, figure, asked[Kind.ACCURACY], asked[Kind.AGREEMENT])
        rows.append(replace(row, chance=chance))
    return rows


def _row(answered: RobustnessResult, figure: str, confidence: float, likeness: float) -> AccuracyRow:
    """One row: accuracies at one level of confidence, and how alike both roles answered at another."""
    row = AccuracyRow(
        answered.suite,
        figure,
        metric=answered.task.metric,
        distance=answered.task.distance,
    )
    mean = len(answered.figures[figure]) > 1 or figure == MEAN
    if answered.labelled:
        row = _with_accuracy(row, answered, confidence, mean)
    if not {BASELINE, CANDIDATE} <= set(answered.roles):
        return row
    row = replace(row, constant=answered.constant(figure))
    if mean:
        alike = answered.mean_agreement(likeness, figure=figure)
        return replace(row, agreement=alike, divergence=answered.mean_divergence(likeness, figure=figure))
    return replace(
        row, agreement=answered.agreement(figure, likeness), divergence=answered.divergence(figure, likeness)
    )


def _with_accuracy(row: AccuracyRow, answered: RobustnessResult, confidence: float, mean: bool) -> AccuracyRow:
    figure, roles = row.condition, answered.roles
    if mean:
        found = {role: answered.mean_accuracy(role, confidence, figure) for role in roles}
    else:
        found = {role: answered.accuracy(role, figure, confidence) for role in roles}
    row = replace(row, baseline=found.get(BASELINE), candidate=found.get(CANDIDATE))
    if not {BASELINE, CANDIDATE} <= found.keys():
        return row
    delta = answered.mean_delta(confidence, figure=figure) if mean else answered.delta(figure, confidence)
    return replace(row, delta=delta)


def export_row(artifact: Artifact) -> ExportRow:
    """The row of the report for an exported artifact; its role is read from the lineage."""
    role, rounding = str(artifact.lineage.get("role", CANDIDATE)), artifact.lineage.get("rounding")
    return ExportRow(
        role,
        artifact.target,
        artifact.path.name,
        artifact.format,
        artifact.precision,
        artifact.size_bytes,
        artifact.identity,
        dict(artifact.parity),
        dict(artifact.receipt),
        dict(rounding) if isinstance(rounding, dict) else {},
    )


def chances(result: Result) -> list[str]:
    """The models of which it is not shown that they know the test images' classes, each told once; candidates first."""
    rows = [row for row in result.accuracy if row.condition == CLEAN]
    clean = [*((row, ruined(row)) for row in rows), *((row, by_chance(row) or perhaps_by_chance(row)) for row in rows)]
    named = ((name_of(result.label(row.target), row.device), text) for row, text in clean if text)
    return list(dict.fromkeys(": ".join(filter(None, each)) for each in named))


def slower(result: Result) -> Iterator[str]:
    """The warning that comes first: compression that costs time, or is not shown to save any."""
    for row in result.latency:
        ratio = ratio_of(row, "p50")
        if ratio is not None and ratio.value > 1:
            said, doubt = ("is slower", "") if ratio.differs else ("is not shown to be faster", f"; {claim(ratio)}")
            figure = f"{with_unit(ratio.value, RATIO)} {interval(ratio, RATIO)}".rstrip()
            spot, whose = place(row.device, row.batch), f" for {row.target}" if result.many else ""
            yield (
                f"The exported candidate{whose} {said} than its baseline on {spot}: "
                f"{figure} of the baseline's median latency{doubt}."
            )


def failures(result: Result) -> list[str]:
    """Device errors, partial measurements and files without answers, each once.

    Rows that unverified files have emptied are left out.
    """
    rows = (row for row in result.latency if row.arms or not result.unsound(row.evidence))
    found = ((row, f"partial: {row.partial}" if row.partial else row.error) for row in rows)
    named = ((name_of(result.label(row.target), row.device), text) for row, text in found)
    unasked = (f"no answer: {row.error}" for row in result.accuracy if row.error)
    return list(dict.fromkeys([*(f"{name}: {text}" for name, text in named if text), *unasked]))


def receipt_warnings(result: Result) -> list[str]:
    """The warnings in the receipts of exported files; they do not make an export fail."""
    found = ((row, text) for row in result.exports for text in row.receipt.get("warnings", []))
    return [f"{result.label(row.target)} {row.file}: {text}".lstrip() for row, text in found]
