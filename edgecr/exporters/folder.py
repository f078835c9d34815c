"""The folder that an export writes into: one export at a time, and no file is touched there that no export wrote."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from edgecr.core.errors import FileProblem, RequestError, RunBusy
from edgecr.core.files import LockHeld, locked, read_json, storage_errors, write_json
from edgecr.core.names import inside
from edgecr.exporters.artifact import MANIFEST, REJECTED, Artifact
from edgecr.exporters.stored_proof import PROOF

REFUSED = "refused.json"
"""The file in place of an artifact that was refused: the reasons, with the figures, and the names of its files."""
_FRESH = ".edgecr-export"
_LOCK = f"{_FRESH}.lock"
_FILES = "files"


class ExportFolder:
    """A folder while one export works in it; the files in ``fresh`` are not an artifact yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fresh = folder / _FRESH

    @classmethod
    @contextlib.contextmanager
    def held(cls, folder: Path) -> Iterator[ExportFolder]:
        """Holds a folder against other exports; what a killed export left half done goes first."""
        made = cls(folder)
        try:
            with locked(folder / _LOCK, remove=True), storage_errors(folder):
                made._begin()
                try:
                    yield made
                finally:
                    shutil.rmtree(made.fresh, ignore_errors=True)
        except LockHeld as error:
            raise RunBusy(f"Another export is writing into {folder}. Wait for it, or give another folder.") from error

    def check(self, names: Iterable[str]) -> None:
        """RequestError where a file of such a name lies in the folder that no export wrote."""
        known = _names(self.folder / MANIFEST)
        for name in names:
            place = self.folder / name
            if name not in known and os.path.lexists(place):
                raise RequestError(
                    f"{place} is in the place of a file of the export, and no manifest beside it names it as an "
                    "exported one, so it is not overwritten. Move it away, or give another folder."
                )

    def keep(self, artifact: Artifact) -> Artifact:
        """Puts the files of a proven artifact in place of those of the one before, their manifest last."""
        artifact.save()  # from here on it vouches for what is moved, should this be the last that this process does
        self._clear(artifact.hashes)
        self._move([*artifact.hashes, *artifact.evidence])
        self._move([MANIFEST])
        return Artifact.within(self.folder)

    def refuse(self, artifact: Artifact | None, reasons: dict[str, Any]) -> None:
        """Puts the reasons in place of the artifact before, and sets the files that were refused aside."""
        names = list(artifact.hashes) if artifact else []
        self._clear(names)
        write_json(self.folder / REFUSED, reasons | {_FILES: names})
        self._move(names, REJECTED)

    def _begin(self) -> None:
        """Makes the empty folder for fresh files."""
        for name in _names(self.fresh / MANIFEST):  # some were moved, and their manifest was not
            _remove(self.folder, name)
        if self.fresh.is_dir() and not self.fresh.is_symlink():
            shutil.rmtree(self.fresh)
        self.fresh.mkdir()

    def _move(self, names: Iterable[str], ending: str = "") -> None:
        """Moves fresh files into the folder, with an ending to their names."""
        for name in names:
            source, place = self.fresh / name, self.folder / f"{name}{ending}"
            with source.open("rb") as written:
                os.fsync(written.fileno())
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(source, place)

    def _clear(self, names: Iterable[str]) -> None:
        """Takes away what earlier exports left; what vouches for files goes after them, for whoever is killed here."""
        rejected = (f"{name}{REJECTED}" for name in (*_names(self.folder / REFUSED), *names))
        for name in (*_names(self.folder / MANIFEST), *rejected, PROOF, REFUSED, MANIFEST):
            _remove(self.folder, name)


def refusal(folder: Path) -> str:
    """The reason why the export into a folder was refused; empty where none was."""
    record = folder / REFUSED
    if not os.path.lexists(record):
        return ""
    values = read_json(record)
    reason = values.get("reason") if isinstance(values, dict) else None
    if not isinstance(reason, str) or not reason:
        raise FileProblem(f"{record} does not say why the export was refused; export again.")
    return reason


def _names(record: Path) -> list[str]:
    """The files that a manifest or a record of refused ones names, even where it is damaged otherwise."""
    with contextlib.suppress(FileProblem):
        values = read_json(record)
        if isinstance(values, dict):
            groups = [each for key in (_FILES, "evidence") if isinstance(each := values.get(key), (dict, list))]
            named = [values.get("path"), *(name for group in groups for name in group)]
            return [name for name in named if _may_be(record.parent, name)]
    return []


def _may_be(folder: Path, name: object) -> bool:
    try:
        return isinstance(name, str) and bool(inside(folder, name))
    except FileProblem:
        return False


def _remove(folder: Path, name: str) -> None:
    """Removes a file of the folder; one that lies behind a symbolic link is none of its own."""
    place = folder / name
    if place.parent.resolve() == folder.resolve() / Path(name).parent:
        place.unlink(missing_ok=True)
