"""Several results side by side: what each candidate is, and how it differs from the first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from edgecr.core.estimate import Estimate
from edgecr.report.candidates import named_views, run_verdict
from edgecr.report.doubts import Marks, about_figure, about_place
from edgecr.report.gates.evidence import place, ratio_of, timing_of
from edgecr.report.numbers import (
    COUNT,
    MEGABYTES,
    MILLISECONDS,
    PERCENT,
    POINTS,
    RATIO,
    Scale,
    counted,
    figure,
    with_unit,
)
from edgecr.report.result import CANDIDATE, MEAN, AccuracyRow, LatencyRow, Result
from edgecr.report.table import Table
from edgecr.report.tables import CLAIMS, condition_name, record_tables
from edgecr.robustness.conditions import CLEAN

Pick = Callable[[Result], "Estimate | None"]


def comparison_tables(results: Sequence[Result]) -> list[Table]:
    """The candidates beside one another, a column for each target of each run; then their distances to the baselines.

    The verdict of a target is the one that its run would have with it alone.
    """
    if not results:
        return []
    columns = [each for result in results for each in named_views(result, run_name(result))]
    head, parts = ("", *(name for name, _ in columns)), [part for _, part in columns]
    marks = Marks()
    values = tuple(_row(parts, *entry) for entry in _values(parts)) + _timed(parts, marks)
    own = tuple(_own(parts, *entry) for entry in _against_baseline(parts))
    one = "run" if len(columns) == len(results) else "column"
    note = (
        ""
        if len(columns) < 2
        else (
            f"In parentheses the difference to the first {one}, or the ratio to it. Latencies "
            f"of different {one}s were not measured in turns: no difference is claimed."
        )
    )
    candidates = Table("Candidates", head, (*_verdicts(results, parts), *values), note, marks.notes)
    against = Table("Against their own baseline", head, own, CLAIMS if _places(parts) else "")
    return [candidates, against, *record_tables(results, ("", *map(run_name, results)))]


def _verdicts(results: Sequence[Result], parts: Sequence[Result]) -> list[tuple[str, ...]]:
    """The verdict of each column, and the runs' own where a run has several targets."""
    if not any(result.many for result in results):
        return [("verdict", *(result.verdict.value for result in results))]
    own = [(run_verdict(part.candidates) if part.candidates else part.verdict).value for part in parts]
    runs = [result.verdict.value for result in results for _ in result.targets]
    return [("verdict", *own), ("verdict of the run", *runs)]


def run_name(result: Result) -> str:
    """Short, yet different for two runs of one recipe."""
    return f"{result.name} ({result.id.rpartition('-')[2][:8]})"


def _row(results: Sequence[Result], title: str, scale: Scale, pick: Pick) -> tuple[str, ...]:
    figures = [pick(result) for result in results]
    rest = (_beside(each, figures[0], scale) for each in figures[1:])
    return (title, figure(figures[0], scale), *rest)


def _timed(results: Sequence[Result], marks: Marks) -> tuple[tuple[str, ...], ...]:
    """The median latencies, a row for each device and batch, with their doubts."""
    found = []
    for device, batch in _places(results):
        title, *cells = _row(
            results,
            f"median latency, {place(device, batch)}",
            MILLISECONDS,
            partial(_latency, device=device, batch=batch),
        )
        rows = (_measured(result, device, batch) for result in results)
        doubts = ([*about_place(row), *about_figure(row, CANDIDATE, "p50")] if row else [] for row in rows)
        found.append((title, *map(marks.beside, cells, doubts)))
    return tuple(found)


def _beside(estimate: Estimate | None, reference: Estimate | None, scale: Scale) -> str:
    text = figure(estimate, scale)
    if estimate is None or reference is None:
        return text
    if scale is PERCENT:
        return f"{text} ({with_unit(estimate.value - reference.value, POINTS)})"
    return f"{text} ({with_unit(estimate.value / reference.value, RATIO)})" if reference.value else text


def _own(results: Sequence[Result], title: str, scale: Scale, pick: Pick) -> tuple[str, ...]:
    return (title, *(figure(pick(result), scale) for result in results))


def _values(results: Sequence[Result]) -> Iterator[tuple[str, Scale, Pick]]:
    for field, title, scale in (
        ("parameters", "parameters", COUNT),
        ("macs", "MACs", COUNT),
        ("size_bytes", "file", MEGABYTES),
    ):
        yield title, scale, partial(_counted, field=field)
    for suite, condition in _conditions([each for each in results if each.labelled]):
        title = f"accuracy, {suite}: {condition_name(condition)}"
        yield title, PERCENT, partial(_share, suite=suite, condition=condition, field=CANDIDATE)


def _against_baseline(results: Sequence[Result]) -> Iterator[tuple[str, Scale, Pick]]:
    for suite, condition in _conditions([each for each in results if each.labelled]):
        title = f"accuracy, {suite}: {condition_name(condition)}"
        yield title, POINTS, partial(_share, suite=suite, condition=condition, field="delta")
    for suite, condition in _conditions(results, _alike_as_a_whole):
        title = f"same answer, {suite}: {condition_name(condition)}"
        yield title, PERCENT, partial(_share, suite=suite, condition=condition, field="agreement")
    for device, batch in _places(results):
        yield f"median latency, {place(device, batch)}", RATIO, partial(_ratio, device=device, batch=batch)


def _alike_as_a_whole(row: AccuracyRow) -> bool:
    """True for the agreement on the clean images, and on a suite as a whole."""
    return row.agreement is not None and row.condition in (CLEAN, MEAN)


def _conditions(
    results: Sequence[Result], shown: Callable[[AccuracyRow], bool] = lambda _: True
) -> list[tuple[str, str]]:
    rows = (row for result in results for row in result.accuracy if shown(row))
    return list(dict.fromkeys((row.suite, row.condition) for row in rows))


def _places(results: Sequence[Result]) -> list[tuple[str, int | None]]:
    return list(dict.fromkeys((row.device, row.batch) for result in results for row in result.latency))


def _counted(result: Result, field: str) -> Estimate | None:
    value = getattr(result.model(CANDIDATE), field, None)
    if value is None:
        return None
    return counted(value / 1e6 if field == "size_bytes" else value)


def _share(result: Result, suite: str, condition: str, field: str) -> Estimate | None:
    row = result.accuracy_of(suite, condition)
    return getattr(row, field) if row else None


def _measured(result: Result, device: str, batch: int | None) -> LatencyRow | None:
    return next((row for row in result.latency if (row.device, row.batch) == (device, batch)), None)


def _latency(result: Result, device: str, batch: int | None) -> Estimate | None:
    row = _measured(result, device, batch)
    return timing_of(row, CANDIDATE, "p50") if row else None


def _ratio(result: Result, device: str, batch: int | None) -> Estimate | None:
    row = _measured(result, device, batch)
    return ratio_of(row, "p50") if row else None
