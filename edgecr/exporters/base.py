"""What an export target, an exporter and an artifact are."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from edgecr.core import builtin
from edgecr.core.errors import FileProblem
from edgecr.core.files import read_json, refused_as, sha256, write_json
from edgecr.core.names import Name
from edgecr.core.options import Options
from edgecr.core.registry import Registry
from edgecr.core.yaml_text import read_options

if TYPE_CHECKING:
    from edgecr.data.views import ProofData
    from edgecr.subject import Subject


PARITY_IMAGES = 64
"""Real images that an exported file is compared with PyTorch on."""


class Parity(Options):
    """How far the exported file may differ from PyTorch on real images."""

    max_abs: Annotated[float, Field(ge=0)] = 1e-3
    """Largest absolute difference of any logit."""
    max_rel: Annotated[float, Field(ge=0)] = 1e-4
    """Largest difference relative to the largest logit."""
    agreement: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Smallest fraction of images on which both choose the same class."""


class Target(Options):
    """One named export declaration, a file in ``export/``."""

    schema_version: Literal[1] = 1
    name: Name
    purpose: str
    format: Literal["onnx"]
    opset: int = 20
    precision: Literal["fp32"] = "fp32"
    dynamic_batch: bool = True
    embed_preprocessing: bool = False
    """Put scaling and normalisation into the graph: the input is then uint8 NHWC."""
    parity: Parity = Parity()


@dataclass(frozen=True)
class Artifact:
    """An exported file and its manifest; only files that passed parity and receipt become one."""

    path: Path
    target: str
    format: str
    precision: str
    sha256: str
    size_bytes: int
    input: dict[str, Any]
    """name, dtype, layout (NCHW or NHWC), shape with None for the batch."""
    output: dict[str, Any]
    preprocessing: dict[str, Any]
    """mean, std, size, embedded."""
    labels: list[str]
    parity: dict[str, Any]
    """images, max_abs, max_rel, agreement."""
    receipt: dict[str, Any]
    """Channels, parameters and MACs recounted from the file beside what the surgery promises."""
    lineage: dict[str, Any] = field(default_factory=dict)
    """Where it came from: run, role (baseline or candidate), steps, versions."""

    def save(self) -> None:
        """Writes the manifest beside the file."""
        values = asdict(self) | {"schema": 1, "path": self.path.name}
        write_json(manifest_path(self.path), values)

    @classmethod
    def load(cls, path: Path) -> Artifact:
        """Reads the manifest beside an exported file."""
        manifest = manifest_path(path)
        values = read_json(manifest)
        if not isinstance(values, dict) or values.pop("schema", None) != 1:
            raise FileProblem(f"{manifest} is no manifest of this version of EdgeCR.")
        unknown = values.keys() - {each.name for each in fields(cls)}
        if unknown:
            raise FileProblem(f"{manifest} has unknown keys ({', '.join(sorted(unknown))}); export again.")
        with refused_as(f"{manifest} lacks keys or has damaged ones; export again"):
            return TypeAdapter(cls).validate_json(json.dumps(values | {"path": str(path)}), strict=True)

    def verify(self) -> None:
        """Raises FileProblem unless the file is there and is the very one the manifest describes."""
        if not self.path.is_file():
            raise FileProblem(f"{self.path} does not exist, though its manifest does; export it again.")
        if sha256(self.path) != self.sha256:
            raise FileProblem(f"{self.path} was changed after it was exported; export the model again.")


def manifest_path(path: Path) -> Path:
    """``model.onnx`` -> ``model.manifest.json``, in the same folder."""
    return path.with_suffix(".manifest.json")


class Exporter(ABC):
    """Writes a subject in one format and proves the file before anyone may use it."""

    @abstractmethod
    def export(
        self, subject: Subject, target: Target, proof: ProofData, folder: Path, lineage: dict[str, Any]
    ) -> Artifact:
        """Proves the file on real images of ``proof``; ExportRefused rather than a bad file."""

    def check(self, target: Target) -> None:  # noqa: B027 - most formats have nothing to refuse
        """Raises RequestError for a target that this format cannot give, before any work is done."""


exporters: Registry[type[Exporter]] = Registry("export format")


def load_target(name: str, beside: Path | None = None) -> Target:
    """Reads a target declaration by name or path."""
    return read_options(Target, builtin.find("export", name, beside))
