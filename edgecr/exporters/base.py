"""The exporter of each format, and how targets and exporters are chosen by the name of the format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from edgecr.core import builtin
from edgecr.core.errors import Problem, RecipeError, RequestError, UnknownName
from edgecr.core.registry import Registry
from edgecr.core.yaml_text import check, read_yaml
from edgecr.exporters.artifact import Artifact, manifest_path
from edgecr.exporters.target import PARITY_IMAGES, Parity, ParityLimits, Target, Written

if TYPE_CHECKING:
    import numpy as np

    from edgecr.data.views import ProofData
    from edgecr.exporters.divergence import Divergence
    from edgecr.exporters.readiness import Readiness
    from edgecr.exporters.receipt import Receipt, Recount
    from edgecr.subject import Subject

__all__ = [
    "PARITY_IMAGES",
    "Artifact",
    "Exporter",
    "Parity",
    "ParityLimits",
    "Target",
    "Written",
    "exporters",
    "load_target",
    "manifest_path",
    "parse_target",
    "runtimes_of",
]

AnyTargetOf = TypeVar("AnyTargetOf", bound=Target)


class Exporter(ABC, Generic[AnyTargetOf]):
    """Writes a subject in one format; the file is proven before anyone may use it."""

    target: ClassVar[type[Target]]
    """The options of a target of this format."""

    def check(self, target: AnyTargetOf) -> None:
        """Raises RequestError for a target that this format cannot give, before any work is done."""

    @abstractmethod
    def write(self, subject: Subject, target: AnyTargetOf, proof: ProofData, folder: Path) -> Written:
        """Writes the files into an empty folder; ``proof`` has images to calibrate with."""

    @abstractmethod
    def receipt(self, subject: Subject, file: Path) -> Receipt:
        """Sets the promises of the surgery beside the contents of the written file."""

    def ready(self, target: AnyTargetOf, file: Path) -> Readiness:
        """Holds a file against the documents of a runtime that this machine need not have."""
        raise RequestError(
            f"Files in the format {target.format!r} are run on this machine to be proven; there is nothing to look up."
        )

    def recount(self, artifact: Artifact, figures: Sequence[str]) -> Recount | None:
        """Counts the files of an artifact without the model, and without torch; None where a format cannot.

        ``figures`` are the names of the promised figures to count. FileProblem for files that do not belong together.
        """
        return None

    def locate(self, subject: Subject, artifact: Artifact, images: np.ndarray, proof: ProofData) -> Divergence | None:
        """Finds the first layer of files that failed parity whose outputs are not the model's; None where a format
        cannot."""
        return None

    def export(
        self, subject: Subject, target: AnyTargetOf, proof: ProofData, folder: Path, lineage: dict[str, Any]
    ) -> Artifact:
        """Writes, proves and keeps the files of a target; ExportRefused, and ``refused.json``, for bad ones.

        What is kept has answered like PyTorch, in the format's own predictor, and has passed its receipt.
        """
        from edgecr.exporters.proving import export  # torch is loaded only when something is exported

        self.check(target)
        return export(self, subject, target, proof, folder, lineage)


exporters: Registry[type[Exporter[Any]]] = Registry("export format")


def load_target(name: str, beside: Path | None = None) -> Target:
    """Reads a target declaration by name or path."""
    document = read_yaml(builtin.find("export", name, beside))
    values = document.values if isinstance(document.values, dict) else {}
    if not isinstance(values.get("format"), str):
        return check(Target, document)  # which tells that the format is missing, or is no text
    try:
        return check(exporters.get(values["format"]).target, document)
    except UnknownName as error:
        raise RecipeError([Problem(document.place(("format",)), "format", str(error))]) from error


def parse_target(values: Any) -> Target:
    """The target that plain values, such as those of a record, describe; UnknownName for an unknown format."""
    name = values.get("format") if isinstance(values, dict) else None
    return (exporters.get(name).target if isinstance(name, str) else Target).parse(values)


def runtimes_of(format_name: str) -> tuple[str, ...]:
    """The runtimes that files of a format run in, the preferred one first."""
    return exporters.get(format_name).target.runtimes
