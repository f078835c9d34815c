"""An exported artifact: its files, and the manifest that describes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from edgecr.core.errors import FileProblem
from edgecr.core.files import joint_hash, read_json, refused_as, sha256, write_json
from edgecr.core.names import inside

STEM = "model"
"""The name of an artifact's main file, before its ending."""
MANIFEST = f"{STEM}.manifest.json"
"""The manifest of an artifact, in the folder of its files."""
SCHEMA = 2
_ONE_OUTPUT = 1
"""The schema of manifests that told of one file with one output; they are still read."""


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
    """images, max_abs, max_rel, agreement, cosine."""
    receipt: dict[str, Any]
    """Channels, parameters and MACs recounted from the file beside what the surgery promises; integer work."""
    lineage: dict[str, Any] = field(default_factory=dict)
    """Origin of the artifact: run, role (baseline or candidate), steps, versions."""
    files: dict[str, FileFacts] = field(default_factory=dict)
    """The files besides the main one, by their place in its folder."""

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
        write_json(manifest_path(self.path), values)

    @classmethod
    def load(cls, path: Path) -> Artifact:
        """Reads the manifest beside an exported file."""
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
        for name in artifact.files:
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


def _manifest(manifest: Path) -> dict[str, Any]:
    """The values of a manifest of this version, or of the one before it, without their schema."""
    values = read_json(manifest)
    schema = values.pop("schema", None) if isinstance(values, dict) else None
    if schema == _ONE_OUTPUT and "output" in values:
        return {key: value for key, value in values.items() if key != "output"} | {"outputs": [values["output"]]}
    if schema not in (_ONE_OUTPUT, SCHEMA):
        raise FileProblem(f"{manifest} is not a manifest that this version can read; export the model again.")
    found: dict[str, Any] = values
    return found
