"""Rounds of a step: what one of them made stays where a killed run finds it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgecr.core.files import read_json, write_json
from edgecr.subject import Subject
from edgecr.training.context import Execution


def kept(folder: Path, key: str, make: Callable[[], Subject], execution: Execution) -> Subject:
    """Returns the subject that an earlier attempt stored under the same key, or else makes and stores it."""
    record = folder.with_suffix(".json")
    if not (record.is_file() and read_json(record) == {"key": key}):
        make().save(folder)
        write_json(record, {"key": key})
    return Subject.load(folder, allow_code=execution.allow_code)
