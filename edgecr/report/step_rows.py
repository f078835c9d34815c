"""A finished step as a row of the report: its options, its time, and the figures it left in its folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgecr.core.errors import FileProblem
from edgecr.core.files import read_json
from edgecr.report.result import StepRow
from edgecr.surgery.planning.record import FILE, PlanRecord

HISTORY = "history.json"


def files_of(name: str, folder: Path) -> list[str]:
    """The files of a step's folder that its row is read from; every pruning leaves a plan."""
    return [file for file in (HISTORY, FILE) if (folder / file).exists() or (name, file) == ("prune", FILE)]


def step_row(name: str, options: str, folder: Path, stage: dict[str, Any]) -> StepRow:
    """The row of one step; ``stage`` is its stage record."""
    facts = {"taken from": stage["borrowed_from"]} if "borrowed_from" in stage else {}
    seconds, learned = _history(folder / HISTORY)
    row = StepRow(name, options, seconds or stage.get("seconds"), learned | facts)
    return _planned(row, PlanRecord.load(folder)) if (folder / FILE).exists() else row


def unreadable(folder: Path, files: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Those of a step's files that are not what their names say, and why."""
    for file in files:
        try:
            _history(folder / file) if file == HISTORY else PlanRecord.load(folder)
        except FileProblem as problem:
            yield file, str(problem)


def _planned(row: StepRow, plan: PlanRecord) -> StepRow:
    """With what a pruning reached under the counters that it was asked for, and the channels of each group."""
    reached = "; ".join(str(one) for one in plan.amounts if one.budget is not None)
    short = "; ".join(one.figure for one in plan.asked if one.short)
    told = {"reached": reached, "short of what was asked for": short, "planned for": plan.device}
    return replace(
        row,
        facts=row.facts | {name: text for name, text in told.items() if text},
        widths={one.group: (one.before, one.after) for one in plan.widths},
        budgets={one.figure: (one.budget, one.after) for one in plan.asked if one.budget is not None},
    )


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
