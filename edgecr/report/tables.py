"""The tables of a report as plain cells; every renderer shows the same ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from edgecr.core.step_record import Cell
from edgecr.report.board_tables import board_table
from edgecr.report.candidates import name_of, views
from edgecr.report.doubts import Marks, about_figure, about_place, about_speed
from edgecr.report.engine_tables import engine_tables
from edgecr.report.gates.evidence import place_in, ratio_of, timing_of
from edgecr.report.gates.judge import NO_GATES, preferred_words
from edgecr.report.headline import claim, distance_cell, model_ratio
from edgecr.report.numbers import (
    DIFFERENCE,
    MILLISECONDS,
    MISSING,
    PERCENT,
    POINTS,
    RATIO,
    confidence_text,
    count,
    exact,
    figure,
    point,
    size,
    with_unit,
)
from edgecr.report.parity_words import parity_words
from edgecr.report.result import (
    BASELINE,
    CANDIDATE,
    AccuracyRow,
    CandidateRow,
    ExportRow,
    GateResult,
    LatencyRow,
    RecordRows,
    Result,
    Status,
)
from edgecr.report.speed_columns import STATE_HEAD, columns, notes, place_and_runtime, state_cells
from edgecr.report.table import Table
from edgecr.report.weight_table import weight_table
from edgecr.robustness.conditions import in_words


def tables(result: Result) -> list[Table]:
    """Every table of a report, in order; a table without rows is left out."""
    found = [
        candidate_table(result),
        gate_table(result),
        model_table(result),
        weight_table(result),
        *accuracy_tables(result),
        board_table(result),
        latency_table(result),
        start_table(result),
        *engine_tables(result),
        *minute_tables(result),
        receipt_table(result),
        rounding_table(result),
        sensitivity_table(result),
        step_table(result),
        *record_tables([result]),
        apart_table(result),
    ]
    return [table for table in found if table.rows]


def candidate_table(result: Result) -> Table:
    """The verdict of several targets: each on each device, why it may ship or may not, and its few figures."""
    marks, rows = Marks(), list[tuple[str, ...]]()
    for row in result.candidates if result.many else ():
        doubts = [text for each in _measured(result, row) for text in about_speed(each)]
        clean, suite, scale = (
            (row.clean, row.suite_delta, POINTS) if result.labelled else (row.agreement, row.suite_agreement, PERCENT)
        )
        worst = figure(suite, scale) + (f" ({row.suite})" if suite and len(result.suites) > 1 else "")
        speed = figure(row.latency, RATIO) + (f" (batch {row.batch})" if row.latency and row.batch is not None else "")
        rows.append(
            (
                name_of(row.target, row.device),
                row.verdict.value,
                "; ".join(_why(row, result)),
                figure(clean, scale),
                worst if row.suite else "not asked",
                marks.beside(speed, doubts) if row.device else "not asked",
                size(row.size_bytes),
            )
        )
    share = "clean accuracy" if result.labelled else "agreement"
    head = ("candidate", "verdict", "why", share, "worst suite", "latency", "file")
    return Table(CANDIDATES, head, tuple(rows), COMPARED.format(share.rpartition(" ")[2].capitalize()), marks.notes)


CANDIDATES = "Candidates"
COMPARED = (
    "{} and median latency are against the uncompressed baseline, exported in float32 for the same target; of several "
    "suites and batch sizes the worst one is shown."
)


def _measured(result: Result, row: CandidateRow) -> list[LatencyRow]:
    """The measurement behind a candidate's latency."""
    return [each for each in result.only(row.target, row.device).latency if each.batch == row.batch]


def _why(row: CandidateRow, result: Result) -> Iterator[str]:
    """The reasons for a candidate's verdict, each in a clause; the table of gates has every word."""
    shipped = [each for each in result.candidates if each.device == row.device and each.ships]
    if row.order == 1 and len(shipped) > 1:
        yield preferred_words(row, result.prefer)
    elif row.ships:
        yield "may ship too" if len(shipped) > 1 else "all gates hold"
    elif not row.why:
        yield NO_GATES
    yield from _lacking(result.only(row.target, row.device).gates)
    yield from row.remarks


def _lacking(gates: Iterable[GateResult]) -> Iterator[str]:
    """The gates that do not hold: what a failed one demands, and once for all incomplete ones what is missing."""
    missing: dict[str, list[str]] = {}
    for gate in gates:
        if gate.status is Status.FAIL:
            yield f"FAIL {gate.name} (needs {gate.condition})"
        elif gate.status is Status.INCOMPLETE:
            missing.setdefault(gate.text.partition("; ")[0], []).append(gate.name)
    yield from (f"INCOMPLETE {', '.join(dict.fromkeys(names))}: {text}" for text, names in missing.items())


def gate_table(result: Result) -> Table:
    """One row for each limit of each gate, of each candidate where there are several."""
    many = result.many
    names = [[name_of(gate.target, gate.device)] if many else [] for gate in result.gates]
    rows = ((gate.status.value, *name, gate.name, gate.condition, gate.text) for name, gate in zip(names, result.gates))
    head = ("", *(["candidate"] if many else []), "gate", "must hold", "found")
    return Table("Gates", head, tuple(rows))


def model_table(result: Result) -> Table:
    """The architectures and sizes of the models."""
    rows: list[tuple[str, ...]] = []
    for view in views(result):
        rows += [
            (row.role, row.architecture, count(row.parameters), count(row.macs), size(row.size_bytes), row.target)
            for row in view.models
        ]
        if len(view.models) == 2:
            ratios = (model_ratio(view, field) for field in ("parameters", "macs", "size_bytes"))
            target = result.label(view.targets[0])
            rows.append(("candidate / baseline", "", *(point(ratio, RATIO) for ratio in ratios), target))
    head = ("role", "architecture", "parameters", "MACs", "file", "target")
    if all(row.uncounted for row in result.models):
        shown, note = (0, 1, 4), "Parameters and MACs are not counted in files from elsewhere."
        return Table("Models", ("role", "file", "size"), tuple(tuple(row[n] for n in shown) for row in rows), note)
    return Table("Models", head, tuple(rows), "MACs are multiply-accumulates for one image.")


def accuracy_titles(view: Result, target: str) -> dict[tuple[str, str], str]:
    """The titles of the tables of one target, with its name where there are several, and the board that answered."""
    what = "Accuracy" if view.labelled else "Agreement"
    return {
        (suite, board): ", ".join(filter(None, (what, f"suite {suite}", name_of(target, board))))
        for suite, board in dict.fromkeys((row.suite, row.device) for row in view.accuracy)
    }


def accuracy_tables(result: Result) -> Iterator[Table]:
    """One table a suite, of each target and of each board that answered."""
    for view in views(result):
        for place, title in accuracy_titles(view, result.label(view.targets[0])).items():
            yield _accuracy_table(title, view.answers(*place), result.labelled)


def _accuracy_table(title: str, rows: Sequence[AccuracyRow], labelled: bool) -> Table:
    answered = [each for row in rows for each in (row.baseline, row.candidate, row.agreement) if each]
    images = max((each.samples for each in answered), default=0)
    columns = dict(_accuracy_columns(rows, labelled))
    cells = tuple((condition_name(row.condition), *(cell(row) for cell in columns.values())) for row in rows)
    intervals = interval_note(each for row in rows for each in (row.delta, row.agreement, row.divergence))
    note = f"Estimates from {images:,} test images; {intervals} {PAIRED if labelled else SHOWN}"
    if other := sorted({row.metric for row in rows} - {"accuracy"}):
        note = f"The figures are the mean {other[0]} of an image, 100 % is the best. {note}"
    told = [words for head, words in EXPLAINED.items() if head in columns]
    return Table(title, ("condition", *columns), cells, " ".join([note, *told]))


PAIRED = "Differences are paired: both models saw the same pixels."
SHOWN = "Both models saw the same pixels."
ALIKE = "same answer"
EXPLAINED = {
    ALIKE: f"'{ALIKE}' is the share of images that candidate and baseline answer alike.",
    "KL": "KL is the divergence of the candidate's probabilities from the baseline's, in nats; 0 is none.",
}
"""The meaning of columns, by their heads."""


def _accuracy_columns(
    rows: Sequence[AccuracyRow], labelled: bool
) -> Iterator[tuple[str, Callable[[AccuracyRow], str]]]:
    """The heads of the columns and what stands in them; without labels there is no accuracy, only agreement."""
    if labelled:
        yield BASELINE, lambda row: figure(row.baseline, PERCENT)
        yield CANDIDATE, lambda row: figure(row.candidate, PERCENT)
        yield "difference in points", lambda row: figure(row.delta, DIFFERENCE)
    if not labelled or any(row.agreement for row in rows):
        yield ALIKE, lambda row: figure(row.agreement, PERCENT)
        yield from ((name, distance_cell) for name in dict.fromkeys(row.distance for row in rows) if name)


def condition_name(condition: str) -> str:
    """A condition in words."""
    return in_words(condition)


def interval_note(estimates: Any) -> str:
    """The explanation of the intervals in brackets; empty if there are none."""
    levels = sorted({each.confidence for each in estimates if each and each.confidence and not exact(each)})
    return f"in brackets the {' and '.join(map(confidence_text, levels))} interval." if levels else ""


UNBOUNDED = "The sign ≈ marks an estimate without an interval."


def latency_table(result: Result) -> Table:
    """One row for each device, batch and role, then their ratio."""
    marks, rows, timings = Marks(), list[tuple[str, ...]](), columns(result)
    for row in result.latency:
        where = marks.beside(place_and_runtime(result, row), about_place(row))
        if not row.arms:
            rows.append((where, "no figures", *[MISSING] * len(timings)))
            continue
        for role in row.arms:
            cells = (
                marks.beside(figure(timing_of(row, role, name), scale), about_figure(row, role, name))
                for name, _, scale in timings
            )
            rows.append((where, role, *cells))
        if len(row.arms) > 1:
            rows.append(
                (
                    where,
                    f"ratio: {claim(ratio_of(row, 'p50'))}",
                    *(_ratio_cell(row, name, marks) for name, _, _ in timings),
                )
            )
    note = interval_note(ratio_of(row, "p50") for row in result.latency)
    head = ("where", "role", *(title for _, title, _ in timings))
    note = f"Estimates; {note}" if note else "Estimates."
    note = f"{note} {UNBOUNDED} {CLAIMS} {CPU_TIME} {notes(result)}".rstrip()
    return Table("Speed on the device", head, tuple(rows), note, marks.notes)


CLAIMS = "A difference in speed is claimed only where the interval of the ratio excludes 1 and the change exceeds 1 %."
CPU_TIME = "CPU time is the processor time of one inference, of all threads together."


def _ratio_cell(row: LatencyRow, name: str, marks: Marks) -> str:
    ratio = ratio_of(row, name)
    reasons = [] if ratio else [text for role in row.arms for text in about_figure(row, role, name)]
    return marks.beside(figure(ratio, RATIO), reasons)


def start_table(result: Result) -> Table:
    """The times of loading and of the first call."""
    marks = Marks()
    rows = tuple(
        (
            place_in(result, row),
            role,
            *(
                marks.beside(figure(estimate, MILLISECONDS), about_figure(row, role, name))
                for name, estimate in (("load", arm.load), ("first", arm.first))
            ),
        )
        for row in result.latency
        for role, arm in row.arms.items()
        if arm.load or arm.first
    )
    return Table("Start", ("where", "role", "load", "first inference"), rows, doubts=marks.notes)


def minute_tables(result: Result) -> Iterator[Table]:
    """The course of every measurement that took several minutes, a row for each of them."""
    for row in result.latency:
        roles = list(row.minutes[0].ms) if row.minutes else []
        cells = tuple(
            (str(one.number), *(with_unit(one.ms[role], MILLISECONDS) for role in roles), *state_cells(one))
            for one in row.minutes
        )
        if cells:
            title = f"Minute by minute: {place_in(result, row)}"
            yield Table(title, ("minute", *roles, *STATE_HEAD), cells, row.course)


def receipt_table(result: Result) -> Table:
    """Each exported file with its proofs."""
    rows = tuple(
        (
            row.role,
            row.target,
            f"{row.file} ({row.sha256[:12]})",
            size(row.size_bytes),
            _receipt(row),
            parity_words(row.parity, cosine=row.precision != "fp32"),
        )
        for row in result.exports
    )
    head = ("role", "target", "file (SHA-256)", "size", "removal receipt", "parity")
    return Table(
        "Exported files",
        head,
        rows,
        "The receipt recounts the file itself; parity compares it with PyTorch on real images.",
    )


def _receipt(row: ExportRow) -> str:
    before, file = row.receipt.get("baseline"), row.receipt.get("file")
    if not isinstance(before, dict) or not isinstance(file, dict):
        return MISSING
    parts = [
        _change(name, before[key], file[key])
        for key, name in (("channels", "channels"), ("weights", "weights"), ("macs", "MACs"))
        if key in before and key in file
    ]
    promises = row.receipt.get("promises", {}).items()
    parts += [f"{words} {told['file']:,} ({told['promised']:,} promised)" for words, told in promises]
    promised = row.receipt.get("promised", file)
    kept = all(promised.get(key) == file.get(key) for key in ("channels", "weights", "macs"))
    return ", ".join(parts) + (", as promised" if kept else ", NOT as promised")


def _change(name: str, before: int, after: int) -> str:
    return f"{name} {after:,}" if before == after else f"{name} {before:,} → {after:,}"


def rounding_table(result: Result) -> Table:
    """The making of each file with 8-bit integers."""
    rows = tuple(
        (
            row.role,
            row.target,
            str(row.rounding.get("calibrator", MISSING)),
            str(row.rounding.get("images", MISSING)),
            "7" if row.rounding.get("reduce_range") else "8",
            _in_integers(row.receipt.get("integers")),
            _told(row.rounding, "drop", lambda drop: with_unit(-drop, POINTS)),
            _told(row.rounding, "floats_kept", lambda layers: ", ".join(layers) or "none"),
        )
        for row in result.exports
        if row.rounding and row.precision == "int8"
    )
    head = ("role", "target", "ranges by", "images", "weight bits", "MACs in integers", "validation", "kept in floats")
    note = "Validation is the change against float32 that `max_drop` was held to; layers were kept in floats for it."
    return Table("8-bit integers", head, rows, note)


def sensitivity_table(result: Result) -> Table:
    """The cost of rounding each layer of a candidate, the costliest first."""
    rows = [
        (row.target, layer, f"{errors['clean']:.1e}", f"{errors['noise']:.1e}", _kept(layer, row.rounding))
        for row in result.exports
        if row.role == CANDIDATE
        for layer, errors in sorted(
            row.rounding.get("sensitivity", {}).items(), key=lambda each: sum(each[1].values()), reverse=True
        )
    ]
    note = (
        "The error of the outputs when this layer alone is in integers: the mean square of the difference, relative to "
        "that of the outputs, on training images as they are and with noise on their pixels."
    )
    return Table("Sensitivity to 8 bits", ("target", "layer", "clean", "noise", "stays"), tuple(rows), note)


def _kept(layer: str, rounding: Mapping[str, Any]) -> str:
    return "in floats" if layer in rounding.get("floats_kept", ()) else "in integers"


def _told(rounding: Mapping[str, Any], key: str, words: Callable[[Any], str]) -> str:
    return words(rounding[key]) if key in rounding else "not asked"


def _in_integers(work: Any) -> str:
    share = work.get("share") if isinstance(work, dict) else None
    return MISSING if share is None else with_unit(share, PERCENT)


def step_table(result: Result) -> Table:
    """The steps that were applied to the model."""
    rows = tuple(
        (
            str(number),
            row.name,
            row.options,
            _seconds(row.seconds),
            "; ".join(f"{name}: {value}".rstrip(".") for name, value in row.facts.items()),
        )
        for number, row in enumerate(result.steps, start=1)
    )
    return Table("Steps", ("", "step", "options", "time", "outcome"), rows)


def record_tables(results: Sequence[Result], head: tuple[str, ...] = ()) -> list[Table]:
    """The records of steps, a table for each title and a column for each result; ``head`` names the columns."""
    records = [record for result in results for step in result.steps for record in step.records]
    first = {record.title: record for record in reversed(records)}
    return [_record_table(results, first[title], head) for title in dict.fromkeys(one.title for one in records)]


def _record_table(results: Sequence[Result], record: RecordRows, head: tuple[str, ...]) -> Table:
    columns = [_record_rows(result, record.title) for result in results]
    rows = tuple(
        (label, *(_row_text(*column[label]) if label in column else MISSING for column in columns))
        for label in dict.fromkeys(label for column in columns for label in column)
    )
    return Table(record.title, head or record.head, rows, record.note)


def _record_rows(result: Result, title: str) -> dict[str, tuple[Cell | None, Cell]]:
    """The rows under one title: from before the first to after the last step, or each step's own value."""
    found: dict[str, tuple[Cell | None, Cell]] = {}
    under = [(n, one) for n, step in enumerate(result.steps, 1) for one in step.records if one.title == title]
    for number, record in under:
        for label, (before, value) in record.rows.items():
            place = f"{label}, step {number}" if before is None and len(under) > 1 else label
            found[place] = (found.get(place, (before, value))[0], value)
    return found


def _row_text(before: Cell | None, value: Cell) -> str:
    now = _cell_text(value)
    return now if before is None or before == value else f"{_cell_text(before)} → {now}"


def _cell_text(value: Cell) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return value if isinstance(value, str) else f"{value:g}"


def apart_table(result: Result) -> Table:
    """The results in the run folder that are not judged."""
    note = "Made under other options than the recipe's, or from other files than the exported ones."
    return Table("Not judged", ("kept apart",), tuple((place,) for place in result.apart), note)


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f} s" if value < 120 else f"{value / 60:.0f} min"


def provenance(result: Result) -> dict[str, str]:
    """The run, date and environment of the result."""
    facts = {"run": result.id, "created": result.created, **result.environment}
    return {name: value for name, value in facts.items() if value}
