"""Verifies an artifact from its folder alone: manifest, files, receipt and parity, on any machine and without torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from edgecr.core.errors import EdgecrError, FileProblem, RequestError, UnsupportedModel
from edgecr.core.files import sha256
from edgecr.exporters.artifact import (
    MANIFEST,
    Artifact,
    FileFacts,
    UnknownManifest,
    is_sealed,
    manifest_path,
    refuse_rejected,
)
from edgecr.exporters.base import exporters
from edgecr.exporters.folder import refusal
from edgecr.exporters.parity import ParityResult
from edgecr.exporters.receipt import recorded_figures
from edgecr.exporters.stored_question import AGAIN, StoredQuestion, as_recorded
from edgecr.predictors import predictor_for
from edgecr.report.result import Status


@dataclass(frozen=True)
class ArtifactCheck:
    """One thing that was looked at, and the finding."""

    name: str
    status: Status
    text: str


@dataclass(frozen=True)
class Verified:
    """All checks of one artifact, in the order in which they were made."""

    path: Path
    """The file or folder that was asked about."""
    checks: tuple[ArtifactCheck, ...]

    @property
    def status(self) -> Status:
        """FAIL if something is not what the manifest says, INCOMPLETE if something could not be checked."""
        found = {check.status for check in self.checks}
        return next((each for each in (Status.FAIL, Status.INCOMPLETE) if each in found), Status.PASS)

    @property
    def exit_code(self) -> int:
        """0, 1 or 2."""
        return {Status.PASS: 0, Status.FAIL: 1, Status.INCOMPLETE: 2}[self.status]

    def plain(self) -> dict[str, Any]:
        """The findings as plain JSON values."""
        checks = [{"name": each.name, "status": each.status.value, "text": each.text} for each in self.checks]
        return {"path": str(self.path), "status": self.status.value, "checks": checks}


class _NotChecked(Exception):
    """A check that cannot be made; the message is the reason."""


def verify(path: Path, threads: int = 0) -> Verified:
    """Checks an exported file, or the folder that it lies in, against its own manifest and stored proof."""
    found: list[ArtifactCheck] = []

    def looked_at(name: str, check: Callable[[], str]) -> bool:
        """Adds the outcome of a check; False if those behind it have nothing to stand on."""
        try:
            found.append(ArtifactCheck(name, Status.PASS, check()))
        except _NotChecked as why:
            found.append(ArtifactCheck(name, Status.INCOMPLETE, str(why)))
        except EdgecrError as why:
            found.append(ArtifactCheck(name, Status.FAIL, str(why)))
            return False
        return True

    artifact = _Suspect(path, threads)
    for name, check in artifact.checks.items():
        if not looked_at(name, check) or artifact.unknown:
            break
    return Verified(path, tuple(found))


class _Suspect:
    """An artifact that nothing is believed of yet."""

    def __init__(self, path: Path, threads: int) -> None:
        self.path = path
        self.threads = threads
        self.artifact: Artifact | None = None
        self.checks = {"manifest": self.manifest, "files": self.files, "receipt": self.receipt, "parity": self.parity}

    @property
    def unknown(self) -> bool:
        """True if there is no manifest to check anything against."""
        return self.artifact is None

    @property
    def known(self) -> Artifact:
        """The artifact as its manifest tells."""
        assert self.artifact is not None
        return self.artifact

    def manifest(self) -> str:
        """Reads the manifest, which must be as it was written."""
        refuse_rejected(self.path)
        folder = self.path.is_dir() or self.path.name == MANIFEST
        manifest = (self.path / MANIFEST if self.path.is_dir() else self.path) if folder else manifest_path(self.path)
        if not manifest.is_file():
            if reason := refusal(manifest.parent):
                raise FileProblem(f"There is no artifact, because its export was refused: {reason}")
            missing = f"{self.path} does not exist" if not self.path.exists() else f"there is no {manifest.name}"
            raise _NotChecked(f"{missing}: nothing says what the file should be")
        _must_be_readable(manifest)
        try:
            self.artifact = Artifact.within(manifest.parent) if folder else Artifact.load(self.path)
            sealed = is_sealed(manifest)
        except UnknownManifest as error:
            raise _NotChecked(str(error)) from error
        if not sealed:
            raise _NotChecked(f"it was written by an earlier version, without a digest of itself; {AGAIN}")
        return f"as it was written; target {self.known.target}, format {self.known.format}, {self.known.precision}"

    def files(self) -> str:
        """Hashes all files again."""
        artifact = self.known
        for name, facts in _all_files(artifact):
            file = artifact.path.parent / name
            if link := _link(artifact.path.parent, name):
                raise FileProblem(f"{link} is a symbolic link; the files of an artifact lie in its own folder.")
            if not file.is_file():
                raise FileProblem(f"{file} does not exist, though its manifest names it.")
            _must_be_readable(file)
            if file.stat().st_size != facts.size_bytes or sha256(file) != facts.sha256:
                raise FileProblem(f"{file} was changed after it was exported, or it is cut short.")
        size = artifact.as_it_is().size_bytes
        if size != artifact.size_bytes:
            raise FileProblem(f"The manifest says {artifact.size_bytes:,} bytes, the files have {size:,}.")
        names = [*artifact.hashes, *artifact.evidence]
        return f"{', '.join(names)}: the very ones that were exported, {size:,} bytes"

    def receipt(self) -> str:
        """Counts the file again."""
        artifact = self.known
        if not artifact.receipt:
            raise _NotChecked("the manifest has no receipt")
        if artifact.format not in exporters:
            raise _NotChecked(f"files in the format {artifact.format!r} are not known here")
        with as_recorded("receipt"):
            try:
                found = exporters.get(artifact.format)().recount(artifact, recorded_figures(artifact.receipt))
            except FileProblem:
                raise
            except (ImportError, RequestError, UnsupportedModel) as error:
                raise _NotChecked(f"it cannot be counted here: {error}") from error
            if found is None:
                raise _NotChecked(f"files in the format {artifact.format!r} cannot be counted without the model")
            if differences := found.differences(artifact.receipt):
                raise FileProblem("; ".join(differences))
            layers, macs = len(found.file.layers), found.file.macs
        return f"{layers} layers with {macs:,} multiply-accumulates, as recorded"

    def parity(self) -> str:
        """Asks the file for the outputs of the stored images."""
        artifact = self.known
        question = StoredQuestion.of(artifact)
        if question is None:
            raise _NotChecked(f"it carries no stored images and outputs: an earlier version wrote it; {AGAIN}")
        with as_recorded("parity"):
            result = self._compared(question)
            if differences := question.failures(result):
                raise FileProblem("; ".join(differences))
        return (
            f"{result.images} stored images answered as PyTorch did: largest difference {result.max_abs:.1e}, "
            f"same answer on {result.agreement:.0%}"
        )

    def _compared(self, question: StoredQuestion) -> ParityResult:
        """The comparison; nothing is said against the very file that was exported where it does not run here."""
        try:
            return question.put_to(predictor_for(self.known, self.threads))
        except (EdgecrError, ImportError) as error:
            raise _NotChecked(f"it cannot be run here: {error}") from error


def _must_be_readable(file: Path) -> None:
    if not os.access(file, os.R_OK):
        raise _NotChecked(f"{file} may not be read")


def _all_files(artifact: Artifact) -> Iterator[tuple[str, FileFacts]]:
    """Every file that a manifest names, with its facts; the size of the main one is what the others leave."""
    others = sum(facts.size_bytes for facts in artifact.files.values())
    yield artifact.path.name, FileFacts(artifact.sha256, artifact.size_bytes - others)
    yield from (artifact.files | artifact.evidence).items()


def _link(folder: Path, name: str) -> Path | None:
    """The first part of a file's path in a folder that is a symbolic link."""
    parts = [folder / part for part in reversed([str(each) for each in PurePosixPath(name).parents if each.name])]
    return next((part for part in (*parts, folder / name) if part.is_symlink()), None)
