"""Verifies a run folder: every file that a stage recorded is hashed again before anything is judged by it.

A record beside its files finds accidents, careless edits and files from elsewhere. It cannot find an attacker who
rewrites a file together with its record: only a signature could, and a run folder holds no secret to sign with.
Records are therefore also held against one another when a run is judged (``edgecr.stages.judge``): a manifest, a
measurement and a robustness record each name the hash of the file that they speak of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ValidationError

from edgecr.core.errors import FileProblem
from edgecr.core.files import read_json, sha256
from edgecr.report.result import FAILED
from edgecr.run import Run

REPORT = "report"
"""The stage of the written report: a cache of the verdict, and no evidence of it."""
CHANGED = "was changed after its stage wrote it: restore the file, or run `{}` again"


class StageRecord(BaseModel):
    """One stage: the key of what it read, and the hashes of what it wrote, or the error that it ended in."""

    key: str
    outputs: dict[str, str]
    seconds: float | None = None
    borrowed_from: str | None = None
    error: str | None = None
    """The failure that the stage ended in; it left no outputs then."""


@dataclass(frozen=True)
class Verification:
    """The records of a run's stages, and the files that are not as recorded."""

    folder: Path
    records: Mapping[str, StageRecord] = field(default_factory=dict)
    """The readable records by stage."""
    problems: dict[str, str] = field(default_factory=dict)
    """Files of the run that no gate may rest on, and what is wrong with each."""
    hashes: Mapping[str, str] = field(default_factory=dict)
    """The current hashes of the files."""

    def files(self, stages: Iterable[str]) -> list[str]:
        """The records of some stages and all that they vouch for."""
        found: dict[str, None] = {}
        for stage in stages:
            record = self.records.get(stage)
            found |= dict.fromkeys([record_name(stage), *(record.outputs if record else ())])
        return list(found)

    def sound(self, *stages: str) -> bool:
        """True if those stages are recorded and all their files are as the stages wrote them."""
        return not any(file in self.problems for file in self.files(stages))

    def recorded(self, stage: str, files: Sequence[str]) -> list[str] | None:
        """The hashes that a stage recorded for some files; None if it does not vouch for all of them."""
        outputs = self.records[stage].outputs if stage in self.records else {}
        return [outputs[file] for file in files] if all(file in outputs for file in files) else None

    def demand(self, stage: str, *files: str) -> None:
        """Notes as a problem that a stage's record does not speak of a file which its figures are read from."""
        record = self.records.get(stage)
        for file in files:
            if record is not None and file not in record.outputs:
                self.reject(record_name(stage), f"does not vouch for {file}")

    def reject(self, file: str, problem: str) -> None:
        """Notes what is wrong with a file; what was found first stays."""
        self.problems.setdefault(file, problem)


def record_name(stage: str) -> str:
    """The path of a stage's record in the run folder."""
    return f"stages/{stage}.json"


def verify(run: Run, expected: Iterable[str], command: str = "edgecr compress") -> Verification:
    """Hashes every recorded output of a run again; an expected stage without a record is a problem too.

    ``command`` is what made the folder, and makes anew what was changed in it.
    """
    problems: dict[str, str] = {}
    records = dict(_records(run, problems))
    for stage in expected:
        if stage not in records:
            missing = "is missing: the stage was not finished, or its record was removed"
            problems.setdefault(record_name(stage), missing)
    problems |= {record_name(stage): f"{FAILED}{each.error}" for stage, each in records.items() if each.error}
    hashes: dict[str, str] = {}
    for record in records.values():
        for file, digest in record.outputs.items():
            found = _hash(run.folder, file, problems)
            if found is not None and found != digest:
                problems.setdefault(file, CHANGED.format(command))
            hashes[file] = found or ""
    return Verification(run.folder, records, problems, hashes)


def _records(run: Run, problems: dict[str, str]) -> Iterator[tuple[str, StageRecord]]:
    for path in sorted((run.folder / "stages").glob("*.json")):
        if path.stem == REPORT:
            continue
        try:
            yield path.stem, read_record(path)
        except FileProblem as problem:
            problems[record_name(path.stem)] = str(problem).replace(f"{path} ", "", 1)


def read_record(path: Path) -> StageRecord:
    """Reads a stage's record; a missing or damaged one is a FileProblem."""
    if not path.is_file():
        raise FileProblem(f"{path} is not a readable file.")
    try:
        return StageRecord.model_validate(read_json(path), strict=True)
    except ValidationError as error:
        raise FileProblem(f"{path} is not the record of a stage.") from error


def _hash(folder: Path, file: str, problems: dict[str, str]) -> str | None:
    """The hash of a recorded file; None, with the reason in ``problems``, when there is none."""
    name = PurePosixPath(file)
    if name.is_absolute() or ".." in name.parts:
        problems.setdefault(file, "lies outside of the run folder")
    elif not (folder / name).exists():
        problems.setdefault(file, "is missing")
    elif not (folder / name).is_file():
        problems.setdefault(file, "is not a file")
    else:
        try:
            return sha256(folder / name)
        except FileProblem as problem:
            problems.setdefault(file, str(problem).replace(f"{folder / name} ", "", 1))
    return None
