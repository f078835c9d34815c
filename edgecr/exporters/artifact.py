"""An exported artifact: its files, and the manifest that describes them."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from edgecr.core.errors import FileProblem
from edgecr.core.files import joint_hash, json_text, read_errors, read_json, refused_as, sha256, write_json
from edgecr.core.names import inside

STEM = "model"
"""The name of an artifact's main file, before its ending."""
MANIFEST = f"{STEM}.manifest.json"
"""The manifest of an artifact, in the folder of its files."""
REJECTED = ".rejected"
"""The ending of files that were refused: kept for a look at what is wrong with them, and for nothing else."""
SCHEMA = 3
_ONE_OUTPUT, _UNSEALED = 1, 2
"""Older schemas, which are still read: one file with one output; no digest and no stored proof."""
_DIGEST = "digest"


class UnknownManifest(FileProblem):
    """A manifest of an edition that this version does not know."""


@dataclass(frozen=True)
class FileFacts:
    """One file of an artifact besides the main one."""

    sha256: str
    size_bytes: int

    @classmethod
    def of(cls, path: Path) -> FileFacts:
        """The facts of a file as it is now."""
        return cls(sha256(path), path.stat().st_size)


@dataclass(frozen=True)
class Artifact:
    """Exported files and their manifest; only files that passed parity and receipt become one."""

    path: Path
    """The main file: what a runtime is told to load."""
    target: str
    format: str
    precision: str
    sha256: str
    """The hash of the main file."""
    size_bytes: int
    """The size of all files together."""
    input: dict[str, Any]
    """name, dtype, layout (NCHW or NHWC), shape with None for the batch."""
    outputs: list[dict[str, Any]]
    """name, dtype and shape of each output, in the file's order."""
    preprocessing: dict[str, Any]
    """mean, std, size, embedded."""
    labels: list[str]
    parity: dict[str, Any]
    """images, max_abs, max_rel, agreement, cosine; the task, the limits, and those for the stored images."""
    receipt: dict[str, Any]
    """Channels, parameters and MACs recounted from the file beside what the surgery promises; integer work."""
    lineage: dict[str, Any] = field(default_factory=dict)
    """Origin of the artifact: run, role (baseline or candidate), steps, versions."""
    files: dict[str, FileFacts] = field(default_factory=dict)
    """The files besides the main one, by their place in its folder."""
    evidence: dict[str, FileFacts] = field(default_factory=dict)
    """Files that prove the others anywhere; no runtime needs them, so they count to neither size nor identity."""

    @property
    def hashes(self) -> dict[str, str]:
        """The hash of every file by its name, the main file first."""
        return {self.path.name: self.sha256} | {name: facts.sha256 for name, facts in self.files.items()}

    @property
    def identity(self) -> str:
        """One hash of all files: what measurements and answers speak of."""
        return joint_hash({"": self.sha256} | {name: facts.sha256 for name, facts in self.files.items()})

    @property
    def beside(self) -> tuple[str, ...]:
        """The names of the files that must lie beside the main one."""
        return tuple(self.files)

    def save(self) -> None:
        """Writes the manifest beside the main file."""
        values = asdict(self) | {"schema": SCHEMA, "path": self.path.name}
        write_json(manifest_path(self.path), sealed(values))

    @classmethod
    def load(cls, path: Path) -> Artifact:
        """Reads the manifest beside an exported file."""
        refuse_rejected(path)
        return cls._of(path, _manifest(manifest_path(path)))

    @classmethod
    def within(cls, folder: Path) -> Artifact:
        """Reads the manifest in a folder that holds one artifact; the manifest says which file is the main one."""
        manifest = folder / MANIFEST
        values = _manifest(manifest)
        name = values.get("path")
        path = inside(folder, name) if isinstance(name, str) else folder
        if path.parent != folder or manifest_path(path) != manifest:
            raise FileProblem(f"{manifest} does not name the file that it describes; export again.")
        return cls._of(path, values)

    @classmethod
    def _of(cls, path: Path, values: dict[str, Any]) -> Artifact:
        manifest = manifest_path(path)
        unknown = values.keys() - {each.name for each in fields(cls)}
        if unknown:
            raise FileProblem(f"{manifest} has unknown keys ({', '.join(sorted(unknown))}); export again.")
        with refused_as(f"{manifest} lacks keys or has damaged ones; export again"):
            artifact = TypeAdapter(cls).validate_json(json.dumps(values | {"path": str(path)}), strict=True)
        if path.name in artifact.files:
            raise FileProblem(f"{path} is a part of {values.get('path')}, which lies beside it; name that file.")
        for name in (*artifact.files, *artifact.evidence):
            inside(path.parent, name)
        return artifact

    def as_it_is(self) -> Artifact:
        """The same with the hashes and sizes that its files have now, whatever the manifest says."""
        main = FileFacts.of(self.path)
        files = {name: FileFacts.of(self.path.parent / name) for name in self.files}
        return replace(self, sha256=main.sha256, size_bytes=total_size(main, files), files=files)

    def verify(self) -> None:
        """Raises FileProblem unless all files are there and are the very ones the manifest describes."""
        for name, digest in self.hashes.items():
            file = self.path.parent / name
            if not file.is_file():
                raise FileProblem(f"{file} does not exist, though its manifest does; export it again.")
            if sha256(file) != digest:
                raise FileProblem(f"{file} was changed after it was exported; export the model again.")


def total_size(main: FileFacts, files: Mapping[str, FileFacts]) -> int:
    """The bytes of all files of an artifact."""
    return main.size_bytes + sum(each.size_bytes for each in files.values())


def manifest_path(path: Path) -> Path:
    """``model.onnx`` -> ``model.manifest.json``, in the same folder."""
    return path.with_suffix(".manifest.json")


def refuse_rejected(path: Path) -> None:
    """Raises for a file that was set aside because it is not what its model is."""
    if path.suffix == REJECTED:
        raise FileProblem(
            f"{path} was refused when it was exported; refused.json beside it says why. It is kept to be looked at, "
            "and nothing measures or ships it."
        )


def _manifest(manifest: Path) -> dict[str, Any]:
    """The values of a manifest of this version, or of one before it, without what only protects them."""
    values = read_json(manifest)
    schema = values.get("schema") if isinstance(values, dict) else None
    if schema not in (_ONE_OUTPUT, _UNSEALED, SCHEMA):
        raise UnknownManifest(f"{manifest} is not a manifest that this version can read; export the model again.")
    if schema == SCHEMA:
        _check_seal(manifest, values)
    found: dict[str, Any] = {key: value for key, value in values.items() if key != "schema"}
    if schema == _ONE_OUTPUT and "output" in found:
        found["outputs"] = [found.pop("output")]
    return found


def is_sealed(manifest: Path) -> bool:
    """True for a manifest of an edition that holds a digest of itself; reading it checks the digest."""
    return bool(read_json(manifest).get("schema") == SCHEMA)


def _check_seal(manifest: Path, values: dict[str, Any]) -> None:
    """Takes the digest out of the values of a manifest; FileProblem unless it and every byte are as `save` wrote them.

    It finds accidents and careless edits. Whoever writes a digest of his own is not found: there is no secret in it.
    """
    sound = False
    with read_errors(manifest), contextlib.suppress(RecursionError):
        sound = manifest.read_bytes() == json_text(values).encode() and values.pop(_DIGEST, None) == _digest(values)
    if not sound:
        raise FileProblem(f"{manifest} was changed after it was written; export the model again.")


def sealed(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a manifest with the digest of them all."""
    return values | {_DIGEST: _digest({key: value for key, value in values.items() if key != _DIGEST})}


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json_text(values).encode()).hexdigest()
