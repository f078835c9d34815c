"""Rounds of a step: what one of them made stays where a killed run finds it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgecr.core.errors import FileProblem
from edgecr.core.files import read_json, sha256, write_json
from edgecr.subject import Subject
from edgecr.training.context import Execution


def kept(
    folder: Path, key: str, make: Callable[[], Subject], execution: Execution, *, beside: tuple[str, ...] = ()
) -> Subject:
    """Returns the subject that an earlier attempt stored under the same key, or else makes and stores it.

    One whose files, or files that were made ``beside`` it, are not those that were stored is made again.
    """
    record = folder.with_suffix(".json")
    if (stored := _stored(record)) is None or stored != _described(folder, key, beside):
        for unfinished in folder.parent.glob(f".{folder.name}.*.tmp"):  # of an attempt that was killed meanwhile
            shutil.rmtree(unfinished, ignore_errors=True)
        make().save(folder)
        write_json(record, _described(folder, key, beside))
    return Subject.load(folder, allow_code=execution.allow_code)


def _stored(record: Path) -> Any:
    """The record of an earlier attempt; None without a whole one."""
    try:
        return read_json(record) if record.is_file() else None
    except FileProblem:
        return None


def _described(folder: Path, key: str, beside: tuple[str, ...]) -> dict[str, Any]:
    """The key, and the hash of each file."""
    files = [*sorted(folder.glob("*")), *(folder.parent / name for name in beside)]
    return {"key": key, "files": {file.name: sha256(file) for file in files if file.is_file()}}
