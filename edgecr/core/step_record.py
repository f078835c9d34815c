"""The records of a step: files in which a method says what it did or found, shown by reports that know no method.

records/NAME.json in the step's folder:
  schema_version   1
  values           what the method noted, in its own fields
  shown            the same for people: title, rows, facts, and the budgets that the gate `budget` judges
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator
from typing_extensions import Self

from edgecr.core.errors import FileProblem
from edgecr.core.files import read_json, refused_as, write_json
from edgecr.core.names import is_name, not_a_name
from edgecr.core.options import Options

FOLDER = "records"
Whole = Annotated[int, Field(ge=0, lt=2**63)]
_LARGEST = 2**63
Text = Annotated[str, Field(max_length=10_000)]


def _plain(value: Any) -> Any:
    """The value as Python has it: what numpy holds as numbers and lists, paths as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in value]
    if hasattr(value, "tolist"):  # an array or a scalar of numpy, which records do not load
        return _plain(value.tolist())
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _in_cell(value: Any) -> Any:
    """The value as a table shows it: numbers that JSON does not have, or not exactly, as text."""
    value = _plain(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return str(value) if type(value) is int and abs(value) >= _LARGEST else value


def _stored(value: Any) -> Any:
    """The plain value as JSON has it: null where a number is not finite."""
    if isinstance(value, dict):
        return {key: _stored(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_stored(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


Cell = Annotated[bool | Annotated[int, Field(gt=-_LARGEST, lt=_LARGEST)] | float | str, BeforeValidator(_in_cell)]


class Row(Options):
    """One line of a record: a value, or one before and after the step."""

    label: Text
    value: Cell
    before: Cell | None = None


class BudgetOutcome(Options):
    """The amount of a figure that a step was allowed to leave, and the amount it left."""

    figure: Text
    asked: Whole
    reached: Whole


class Shown(Options):
    """A record as a report shows it."""

    title: Text
    """Title of the table; rows of several steps under one title are put together."""
    head: tuple[Text, Text] = ("", "value")
    """Names of the two columns."""
    note: Text = ""
    """Explanation of the table."""
    rows: Annotated[tuple[Row, ...], Field(max_length=100_000)] = ()
    facts: Annotated[dict[str, Text], Field(max_length=100)] = Field(default_factory=dict)
    """Facts shown beside the step itself, by name."""
    budgets: Annotated[tuple[BudgetOutcome, ...], Field(max_length=100)] = ()

    @model_validator(mode="after")
    def _labels_differ(self) -> Self:
        labels = [row.label for row in self.rows]
        if len(set(labels)) < len(labels):
            raise ValueError("two rows have the same label")
        return self


class StepRecord(Options):
    """A record with fields of its own; what it does not say about its looks is a row for each field."""

    model_config = ConfigDict(allow_inf_nan=True, ser_json_inf_nan="constants")

    def shown(self, name: str) -> Shown:
        """The record for people; ``name`` is what the step calls it."""
        return _rows_of(name, self.model_dump(mode="json"))


class _File(Options):
    """The content of a record's file."""

    schema_version: Literal[1] = 1
    values: dict[str, Any]
    shown: Shown


def write_record(folder: Path, name: str, noted: Options | Mapping[str, Any]) -> None:
    """Writes a record into a step's folder; plain values are shown as they are.

    A number that is not finite is shown as text and stored as null: a step is not lost for it.
    """
    if not is_name(name):
        raise not_a_name("record", name)
    values = _plain(noted.model_dump(mode="json") if isinstance(noted, Options) else noted)
    shown = noted.shown(name) if isinstance(noted, StepRecord) else _rows_of(name, values)
    write_json(record_file(folder, name), _File(values=_stored(values), shown=shown).model_dump(mode="json"))


def record_file(folder: Path, name: str) -> Path:
    """Returns the path of the record of that name in a step's folder."""
    return folder / FOLDER / f"{name}.json"


def record_files(folder: Path, required: tuple[str, ...] = ()) -> list[str]:
    """All records in a step's folder, and those that must be there, as paths in the folder."""
    found = {path.name for path in (folder / FOLDER).glob("*.json")} | {f"{name}.json" for name in required}
    return [f"{FOLDER}/{name}" for name in sorted(found)]


def read_shown(file: Path) -> Shown:
    """Returns the display of a record's file; a damaged one, or one of another version, is a FileProblem."""
    return _read(file).shown


def read_values(file: Path) -> dict[str, Any]:
    """Returns the values that a method noted in a record's file."""
    return _read(file).values


def _read(file: Path) -> _File:
    found = read_json(file)
    if not isinstance(found, dict) or found.get("schema_version") != 1:
        raise FileProblem(f"{file} was written by another version of EdgeCR.")
    with refused_as(f"{file} is not the record of a step"):
        return _File.parse(found)


def _rows_of(name: str, values: Mapping[str, Any]) -> Shown:
    return Shown(title=name, rows=tuple(Row(label=key, value=_cell(value)) for key, value in values.items()))


def _cell(value: Any) -> bool | int | float | str:
    if value is None:
        return "none"
    return value if isinstance(value, bool | int | float | str) else json.dumps(value, default=str)
