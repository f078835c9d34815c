"""A finished step as a row of the report: its options, its time, and what its records show."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from edgecr.core.errors import FileProblem
from edgecr.core.files import read_json
from edgecr.core.step_record import FOLDER, BudgetOutcome, Shown, read_shown, record_files
from edgecr.report.result import RecordRows, StepRow
from edgecr.surgery.planning.record import read_first_plan

HISTORY = "history.json"
FIRST_PLAN = "plan.json"
"""The record of a pruning, in runs made before every method left records."""


def files_of(folder: Path, required: tuple[str, ...] = ()) -> list[str]:
    """The files of a step's folder that its row is read from; records that its method requires are among them."""
    history = [HISTORY] if (folder / HISTORY).exists() else []
    return [*history, *([FIRST_PLAN] if _is_first(folder) else record_files(folder, required))]


def step_row(name: str, options: str, folder: Path, stage: dict[str, Any]) -> StepRow:
    """The row of one step; ``stage`` is its stage record."""
    facts = {"taken from": stage["borrowed_from"]} if "borrowed_from" in stage else {}
    seconds, learned = _history(folder / HISTORY)
    records = [_shown(folder, file) for file in files_of(folder) if file != HISTORY]
    return StepRow(
        name,
        options,
        seconds or stage.get("seconds"),
        learned | facts | {name: text for one in records for name, text in one.facts.items()},
        [_rows(one) for one in records if one.rows],
        _budgets(outcome for one in records for outcome in one.budgets),
    )


def _budgets(outcomes: Iterable[BudgetOutcome]) -> dict[str, tuple[int, int]]:
    """Every budget under its figure's name; a further one for the same figure bears a number."""
    found: dict[str, tuple[int, int]] = {}
    for outcome in outcomes:
        names = itertools.chain([outcome.figure], (f"{outcome.figure} ({number})" for number in itertools.count(2)))
        found[next(name for name in names if name not in found)] = outcome.asked, outcome.reached
    return found


def unreadable(folder: Path, files: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Those of a step's files that are not what their names say, and why."""
    for file in files:
        try:
            _history(folder / file) if file == HISTORY else _shown(folder, file)
        except FileProblem as problem:
            yield file, str(problem)


def _is_first(folder: Path) -> bool:
    return (folder / FIRST_PLAN).exists() and not (folder / FOLDER).exists()


def _shown(folder: Path, file: str) -> Shown:
    return read_first_plan(folder / file).shown(file) if file == FIRST_PLAN else read_shown(folder / file)


def _rows(shown: Shown) -> RecordRows:
    return RecordRows(shown.title, shown.head, shown.note, {row.label: (row.before, row.value) for row in shown.rows})


def _history(path: Path) -> tuple[float | None, dict[str, str]]:
    """Seconds and the closing figures of a training step."""
    if not path.exists():
        return None, {}
    try:
        epochs = read_json(path)["epochs"]
        facts = {"loss": f"{epochs[-1]['loss']:.4f}"}
        if epochs[-1]["validation"] is not None:
            facts["validation"] = f"{epochs[-1]['validation']:.2%}"
        return sum(epoch["seconds"] for epoch in epochs), facts
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise FileProblem(f"{path} is not the history of a training: {error!r}.") from error
