"""The files of an arm that a board gets: all that its model consists of, in a folder named after their hash."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from edgecr.core.files import joint_hash, sha256
from edgecr.predictors.onnx_weights import checked, external_places, parsed
from edgecr.runners.agent.memory import Need, need_of


@dataclass(frozen=True)
class Payload:
    """The files of one model: itself, and those that hold its weights, by their place beside it."""

    path: Path
    beside: tuple[str, ...]
    needs: Mapping[int, Need]
    """The memory that one inference needs, by batch."""
    hashes: Mapping[str, str]
    """The SHA-256 of each file; the model itself has the name ''."""
    size_bytes: int
    """The bytes of all files."""
    entries: Mapping[str, str] = field(default_factory=dict)
    """The entries of ONNX Runtime's configuration in which the file is computed here as well."""

    @classmethod
    def of(cls, path: Path, beside: tuple[str, ...], needs: Mapping[int, Need]) -> Payload:
        """A model as its files are now."""
        files = {"": path, **{place: path.parent / place for place in beside}}
        hashes = {place: sha256(file) for place, file in files.items()}
        return cls(path, beside, needs, hashes, sum(file.stat().st_size for file in files.values()))

    @property
    def sha256(self) -> str:
        """The hash of the one file, or one over the hashes of all of them."""
        return joint_hash(self.hashes)

    @property
    def name(self) -> str:
        """The model's path in the agent's folder; its external weights lie beside it, as on this machine."""
        name, taken = f"model{self.path.suffix}", {PurePosixPath(place).parts[0] for place in self.beside}
        while name in taken:
            name = f"_{name}"
        return f"{self.sha256[:16]}/{name}"

    def files(self) -> dict[str, Path]:
        """Every file by its name in the agent's folder."""
        folder = self.sha256[:16]
        return {self.name: self.path, **{f"{folder}/{one}": self.path.parent / one for one in self.beside}}

    def send(self, put: Callable[[Path, str, str], None]) -> None:
        """Has every file sent as it was when its hash was taken."""
        folder = self.sha256[:16]
        put(self.path, self.name, self.hashes[""])
        for place in self.beside:
            put(self.path.parent / place, f"{folder}/{place}", self.hashes[place])


def payload_of(path: Path, batches: Iterable[int], beside: Iterable[str] = ()) -> Payload:
    """Everything that belongs to a model: the files that are named, those that an ONNX file reads weights from, and
    the memory it takes with those batches. A file that onnx cannot read is sent as it is; the board tells what is wrong
    with it. One outside of the model's folder is a FileProblem."""
    model = parsed(path)
    places = dict.fromkeys(
        [checked(path, place) for place in (*beside, *(() if model is None else external_places(model)))]
    )
    if model is None:
        size = path.stat().st_size + sum((path.parent / place).stat().st_size for place in places)
        return Payload.of(path, tuple(places), dict.fromkeys(batches, Need(size, 0)))
    payload = Payload.of(path, tuple(places), {batch: need_of(model, batch) for batch in batches})
    return replace(payload, entries=_entries(model))


def _entries(model: Any) -> dict[str, str]:
    from edgecr.predictors.onnx_file import session_entries  # onnx takes its time to be imported

    return session_entries(model)
