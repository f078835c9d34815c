"""Checkpoints that survive a kill at any moment: two generations of tensors and JSON, checked by hash."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from edgecr.core.errors import FileProblem
from edgecr.core.files import fingerprint, read_json, replacing_folder, sha256, write_json
from edgecr.core.progress import Monitor
from edgecr.weights import read_tensors, write_tensors

_GENERATIONS = ("checkpoint-a", "checkpoint-b")


@dataclass(frozen=True)
class Checkpoint:
    """A training's state: tensors by name, and everything else as plain JSON values."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors below one first name, without it."""
        head = f"{name}/"
        return {key.removeprefix(head): value for key, value in self.tensors.items() if key.startswith(head)}


class Checkpoints:
    """The two newest states of one training in a folder; ``identity`` tells it from any other training."""

    def __init__(self, folder: Path, identity: str, monitor: Monitor) -> None:
        self.folder, self.identity, self.monitor = folder, identity, monitor
        self.serial = 0

    def tidy(self) -> None:
        """Removes what a kill left half-written."""
        for leftover in self.folder.glob(".checkpoint-*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)

    def save(self, state: Checkpoint) -> None:
        """Writes the state over the older generation; the newer one stays until this one is whole."""
        self.serial += 1
        with replacing_folder(self.folder / _GENERATIONS[self.serial % 2]) as temporary:
            write_tensors(temporary / "tensors.safetensors", state.tensors)
            record = {
                "schema": 1,
                "identity": self.identity,
                "serial": self.serial,
                "sha256": sha256(temporary / "tensors.safetensors"),
                "facts": state.facts,
                "facts_sha256": fingerprint(state.facts),
            }
            write_json(temporary / "state.json", record)

    def load(self) -> Checkpoint | None:
        """The newest whole state of this training, or None; the user hears of damaged and foreign ones."""
        records = [record for name in _GENERATIONS if (record := self._record(self.folder / name))]
        for record in sorted(records, key=lambda record: int(record["serial"]), reverse=True):
            try:
                tensors = read_tensors(record["folder"] / "tensors.safetensors")
            except FileProblem as error:
                self._pass_over(record["folder"], str(error))
                continue
            self.serial = int(record["serial"])
            return Checkpoint(tensors, record["facts"])
        return None

    def _record(self, folder: Path) -> dict[str, Any] | None:
        """The description of one generation if it is whole and belongs to this training."""
        if not folder.is_dir():
            return None
        try:
            record: dict[str, Any] = read_json(folder / "state.json")
            if record["schema"] != 1 or record["identity"] != self.identity:
                raise FileProblem("it belongs to a training with other options, data or weights")
            if sha256(folder / "tensors.safetensors") != record["sha256"]:
                raise FileProblem("its tensors are damaged")
            if fingerprint(record["facts"]) != record["facts_sha256"]:
                raise FileProblem("its facts are damaged")
            return {"serial": int(record["serial"]), "facts": record["facts"], "folder": folder}
        except FileProblem as error:
            self._pass_over(folder, str(error))
        except (OSError, KeyError, TypeError, ValueError) as error:
            self._pass_over(folder, f"it is damaged ({type(error).__name__}: {error})")
        return None

    def _pass_over(self, folder: Path, reason: str) -> None:
        self.monitor.warn(f"The checkpoint {folder} is not used: {reason}")


def discard(folder: Path) -> None:
    """Removes a finished training's checkpoints, once its result is saved."""
    for name in _GENERATIONS:
        shutil.rmtree(folder / name, ignore_errors=True)
