"""The file beside a board's answers: who gave them, and how near they are to PyTorch's outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from edgecr.core.files import read_json, refused_as, write_json
from edgecr.report.result import BoardRow

BOARD_FILE = "board.json"


class AnsweredBy(BaseModel):
    """The board, and by role the runtime that answered and its version."""

    device: dict[str, Any]
    runtimes: dict[str, tuple[str, str]]


class BoardRecord(BaseModel):
    """The answerers, and by role the differences from PyTorch's outputs for the images that the file carries."""

    answered_by: AnsweredBy
    parity: dict[str, dict[str, Any]]


def write_board(folder: Path, answered_by: Mapping[str, Any], parity: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes the record beside the answers of a board."""
    write_json(folder / BOARD_FILE, {"schema": 1, "answered_by": dict(answered_by), "parity": dict(parity)})


def board_rows(folder: Path, target: str, device: str) -> Iterator[BoardRow]:
    """The rows that a report has of a record; one that does not fit is a FileProblem."""
    file = folder / BOARD_FILE
    with refused_as(f"{file} is not the record of a board"):
        record = BoardRecord.model_validate(read_json(file))
    for role, (runtime, version) in record.answered_by.runtimes.items():
        yield BoardRow(device, role, runtime, version, record.parity.get(role, {}), target)
