"""The step store: each finished step lies once, under the hash of all that it read and of what made it.

runs/.steps/<key>/
  record.json   inputs, maker, the hash of every output, the run that made it, seconds
  subject/ history.json plan.json ...   the outputs; runs hold hard links to them, or copies on other file systems
  .lock         held while a process makes the step; a second run waits for it

The maker (packages, EdgeCR's own source, processor, threads, accelerator) is part of the key: a step is only ever taken
over from a process that would have computed the same bits. Outputs are verified against their hashes each time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from edgecr.core.environment import cpu_model, packages, python_version
from edgecr.core.errors import FileProblem
from edgecr.core.files import LockHeld, fingerprint, locked, read_json, replacing, sha256, storage_errors, write_json
from edgecr.training.checkpoint import discard
from edgecr.training.context import Execution

FOLDER = ".steps"
_RECORD, _LOCK = "record.json", ".lock"
_POLL_S = 0.2


@dataclass(frozen=True)
class Step:
    """One step of the store: a folder that is being filled, or is finished and then never changed."""

    folder: Path
    inputs: Mapping[str, Any]
    maker: Mapping[str, Any]

    @contextlib.contextmanager
    def held(self, waits: Callable[[], None]) -> Iterator[None]:
        """Holds the step's lock; calls ``waits`` once when another process has it, then waits for its end."""
        told = False
        with contextlib.ExitStack() as stack:
            while True:
                try:
                    stack.enter_context(locked(self.folder / _LOCK))
                    break
                except LockHeld:
                    if not told:
                        waits()
                    told = True
                    time.sleep(_POLL_S)
            yield

    def finished(self) -> dict[str, Any] | None:
        """The record of a finished step whose outputs are still what it wrote, or None."""
        try:
            record = read_json(self.folder / _RECORD)
            whole = (
                {"run", "seconds"} <= record.keys()
                and record["inputs"] == self.inputs
                and record["maker"] == self.maker
                and record["outputs"] == {name: sha256(self.folder / name) for name in self._outputs()}
            )
        except (FileProblem, OSError, KeyError, TypeError, AttributeError):
            return None
        return record if whole else None

    def begin(self) -> None:
        """Removes a record that does not hold, whatever it is: the work must not end at what stands in its way."""
        record = self.folder / _RECORD
        if record.is_dir() and not record.is_symlink():
            shutil.rmtree(record)
        else:
            record.unlink(missing_ok=True)

    def finish(self, **facts: Any) -> dict[str, Any]:
        """Records the step as finished with the outputs that lie in its folder now; returns the record."""
        discard(self.folder)
        outputs = {name: sha256(self.folder / name) for name in self._outputs()}
        record = {"inputs": self.inputs, "maker": self.maker, "outputs": outputs, **facts}
        write_json(self.folder / _RECORD, record)
        return record

    def hand_over(self, to: Path) -> None:
        """Gives a run the outputs, as hard links where the file system allows it."""
        with storage_errors(to):
            shutil.rmtree(to, ignore_errors=True)
            for name in self._outputs():
                (to / name).parent.mkdir(parents=True, exist_ok=True)
                _link(self.folder / name, to / name)

    def clear(self) -> None:
        """Removes everything but the lock."""
        for entry in list(self.folder.iterdir()):
            if entry.name != _LOCK:
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()

    def _outputs(self) -> list[str]:
        """The names of all output files, sorted."""
        files = (file for file in self.folder.rglob("*") if file.is_file())
        names = (file.relative_to(self.folder).as_posix() for file in files)
        return sorted(name for name in names if name not in (_RECORD, _LOCK))


@dataclass(frozen=True)
class StepStore:
    """All steps below one folder of runs, made by one kind of process."""

    root: Path
    maker: Mapping[str, Any]

    @classmethod
    def beside(cls, runs: Path, execution: Execution) -> StepStore:
        """The store of a folder of runs, for a process that works like this."""
        return cls(runs / FOLDER, maker(execution))

    def step(self, inputs: Mapping[str, Any]) -> Step:
        """The step that reads these inputs, finished or not."""
        return Step(self.root / fingerprint([inputs, self.maker])[:32], inputs, self.maker)


def maker(execution: Execution) -> dict[str, Any]:
    """Everything about this process that can change the bits of a training."""
    return {
        "packages": packages(),
        "source": _own_source(),
        "python": python_version(),
        "cpu": cpu_model(),
        "threads": threads(execution),
        "accelerator": accelerator(execution),
        "devices": execution.devices,
    }


def threads(execution: Execution) -> int:
    """The threads that work here, torch's own choice where nobody made one."""
    import torch

    return execution.threads or torch.get_num_threads()


def accelerator(execution: Execution) -> str:
    """The kind of processor that trains: ``cpu``, or the name of the GPU."""
    import torch

    if execution.accelerator == "cpu" or not torch.cuda.is_available():
        return "cpu"
    return str(torch.cuda.get_device_name(0))


@cache
def _own_source() -> str:
    """The hash of EdgeCR's own source: a version number stays the same while the code of a checkout changes."""
    package = Path(__file__).parents[1]
    files = sorted(package.rglob("*.py"))
    return fingerprint([[file.relative_to(package).as_posix(), sha256(file)] for file in files])


def _link(source: Path, to: Path) -> None:
    try:
        os.link(source, to)
    except OSError:  # another file system, or one without hard links
        with replacing(to) as temporary:
            shutil.copyfile(source, temporary)
