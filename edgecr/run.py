"""The run folder: where everything that one recipe produced lies, and what of it is finished.

runs/<recipe>-<short identity>/
  recipe.yaml           the resolved recipe; running it again gives the same run
  run.json              identity, recipe, purpose, data and weights fingerprints
  environment.json      versions, processor, threads, git state; where it went on in another environment, that too
  events.jsonl          what happened when
  steps/00-train/       a finished step's history and resulting subject, shared with the step store (runs/.steps)
  baseline/ candidate/  the subjects that are compared
  export/<target>/      the exported baseline and candidate and their manifests
  measure/  robustness/ raw samples and predictions under the recipe's own options: what gates read
  extra/                the same under other options: shown when made, never judged
  report.json .md .html the result
  stages/<name>.json    one record for each finished stage: its key and the hashes of its outputs
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import override

from edgecr.core.errors import FileProblem, RunBusy
from edgecr.core.files import (
    LockHeld,
    fingerprint,
    locked,
    read_json,
    sha256,
    storage_errors,
    write_json,
    write_text,
)
from edgecr.core.names import inside
from edgecr.core.progress import Bar, Monitor

ROLES = ("baseline", "candidate")
QUESTION = "run"
"""The stage that every run begins with: its record vouches for what was asked."""
RESUMED = "resumed"
"""The entry of environment.json that lists the other environments that the run went on in."""


@dataclass(frozen=True)
class Run:
    """One run folder and the questions that may be asked of it."""

    folder: Path

    @classmethod
    def find(cls, given: Path) -> Run:
        """The run in a folder that a user names; anything else is a FileProblem."""
        if not given.exists():
            raise FileProblem(f"{given} does not exist.")
        if not (given / "run.json").is_file():
            raise FileProblem(
                f"{given} is not a run folder (it has no run.json). Runs lie in runs/ after `edgecr compress RECIPE`."
            )
        return cls(given)

    @classmethod
    def latest(cls, root: Path) -> Run:
        """The run that was worked on last."""
        records = sorted(root.glob("*/run.json"), key=lambda path: path.parent.stat().st_mtime)
        if not records:
            raise FileProblem(f"There is no run in {root}/ yet. Start one: edgecr compress recipes/quickstart.yaml")
        return cls(records[-1].parent)

    @property
    def record(self) -> dict[str, Any]:
        """The contents of run.json."""
        path = self.folder / "run.json"
        values = read_json(path)
        if not isinstance(values, dict):
            raise FileProblem(f"{path} is not the record of a run.")
        return values

    def step(self, index: int, name: str) -> Path:
        """The folder of one step."""
        return inside(self.folder, "steps", f"{index:02d}-{name}")

    def subject(self, role: str) -> Path:
        """The folder of the baseline or candidate subject."""
        return inside(self.folder, role)

    def export(self, target: str) -> Path:
        """The folder of one export target."""
        return inside(self.folder, "export", target)

    def measurement(self, device: str, target: str) -> Path:
        """The raw measurement of one target on one device; no name has an ``@``, so no two pairs share a file."""
        return inside(self.folder, "measure", f"{device}@{target}.json")

    def robustness(self, suite: str, target: str, board: str = "") -> Path:
        """The folder of one suite's predictions on one target, by this machine or by a board."""
        return inside(self.folder, "robustness", "@".join(filter(None, (suite, target, board))))

    def beside(self, own: Path, key: str) -> Path:
        """The path for a result like ``own``, but made under other options than the recipe's."""
        place = self.folder / "extra" / own.relative_to(self.folder)
        return place.with_name(f"{place.name.removesuffix('.json')}-{key[:8]}{'.json' * (own.suffix == '.json')}")

    # What is finished

    def stage(self, name: str) -> Path:
        """The record of one stage."""
        return inside(self.folder, "stages", f"{name}.json")

    def finished(self, name: str, key: str) -> bool:
        """True if a stage was finished with exactly these inputs and its outputs are still as it wrote them."""
        try:
            record = self._recorded(name)
            return record["key"] == key and "error" not in record and not self.damaged(name)
        except FileProblem:
            return False  # a stage without a readable record is done again

    def damaged(self, name: str) -> list[Path]:
        """The outputs of a stage that are not what it wrote; none when there is no record of it."""
        return [file for file, digest in self._outputs(name).items() if not file.is_file() or sha256(file) != digest]

    def discard(self, name: str) -> None:
        """Removes the files that a stage wrote, so that nothing is in its way when it is done again."""
        own = self.folder.resolve()
        for file in self._outputs(name):
            if file.is_file() and file.parent.resolve().is_relative_to(own):
                file.unlink()

    def _outputs(self, name: str) -> dict[Path, str]:
        """The files that a stage wrote, and their hashes; none when there is no record of it."""
        if not self.stage(name).is_file():
            return {}
        return {inside(self.folder, file): digest for file, digest in self._recorded(name)["outputs"].items()}

    def _recorded(self, name: str) -> dict[str, Any]:
        path = self.stage(name)
        record = read_json(path)
        if not isinstance(record, dict) or not isinstance(record.get("outputs"), dict) or "key" not in record:
            raise FileProblem(f"{path} is not the record of a stage.")
        return record

    def finish(self, name: str, key: str, outputs: Iterable[Path], **facts: Any) -> None:
        """Records a finished stage; folders among the outputs stand for all the files in them."""
        files = [file for output in outputs for file in [output, *sorted(output.rglob("*"))]]
        hashes = {file.relative_to(self.folder).as_posix(): sha256(file) for file in files if file.is_file()}
        write_json(self.stage(name), {"key": key, "outputs": hashes, "at": _now(), **facts})

    def fail(self, name: str, key: str, error: str) -> None:
        """Records that a stage failed, and why; it is tried again when the run is."""
        self.finish(name, key, [], error=error)

    # Writing

    @contextlib.contextmanager
    def writing(self, otherwise: str = "change the recipe's name to run a second one") -> Iterator[None]:
        """Holds the run's lock; the lock dies with the process, however it dies.

        ``otherwise`` is what whoever finds it held may do instead of waiting.
        """
        try:
            with locked(self.folder / ".lock"):
                yield
        except LockHeld as error:
            raise RunBusy(
                f"Another edgecr process is working on {self.folder}. Wait for it, or {otherwise}."
            ) from error

    def clear(self) -> None:
        """Removes everything but the lock."""
        for entry in self.folder.iterdir():
            if entry.name == ".lock":
                continue
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()

    def begin(self, record: dict[str, Any], recipe_yaml: str, environment: dict[str, Any]) -> None:
        """Writes what the run is, and vouches for it.

        A second start keeps the time and the environment of the first, and lists its own environment beside that
        one where they differ.
        """
        key = identity(record, recipe_yaml)
        files = [self.folder / name for name in ("recipe.yaml", "run.json", "environment.json")]
        if self.finished(QUESTION, key):
            first = read_json(files[2])
            known = [first, *first[RESUMED]]
            if any(_same_place(environment, each) for each in known):
                return
            environment = first | {RESUMED: [*first[RESUMED], environment]}
        else:
            environment = environment | {RESUMED: []}
            write_text(files[0], recipe_yaml)
            write_json(files[1], record | {"created": self._created() or _now()})
        write_json(files[2], environment)
        self.finish(QUESTION, key, files)

    def _created(self) -> str | None:
        """The time at which the run was begun, if its record still tells."""
        with contextlib.suppress(FileProblem):
            created = self.record.get("created")
            return created if isinstance(created, str) else None
        return None


def _same_place(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """True if two environments differ at most in the command that was typed and in the list of resumptions."""
    apart = {"command", RESUMED}
    return {k: v for k, v in one.items() if k not in apart} == {k: v for k, v in other.items() if k not in apart}


def identity(*parts: Any) -> str:
    """A key that changes when any of its plain parts does."""
    return fingerprint(list(parts))


class RunMonitor(Monitor):
    """Writes events to the run's log and passes everything on to the display."""

    def __init__(self, run: Run, display: Monitor) -> None:
        self._file = run.folder / "events.jsonl"
        self._display = display

    @override
    def say(self, text: str) -> None:
        self.event("say", text=text)
        self._display.say(text)

    @override
    def warn(self, text: str) -> None:
        self.event("warn", text=text)
        self._display.warn(text)

    @override
    def event(self, kind: str, **facts: Any) -> None:
        with storage_errors(self._file), self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"at": _now(), "event": kind, **facts}, sort_keys=True) + "\n")

    @override
    def bar(self, label: str, total: float, done: float = 0) -> Bar:
        return self._display.bar(label, total, done)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
