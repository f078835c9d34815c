"""Export targets, the exporter of each format, and how both are chosen by the name of the format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

from pydantic import Field

from edgecr.core import builtin
from edgecr.core.errors import Problem, RecipeError, UnknownName
from edgecr.core.names import Name
from edgecr.core.options import Options
from edgecr.core.registry import Registry
from edgecr.core.yaml_text import check, read_yaml
from edgecr.exporters.artifact import Artifact, manifest_path

if TYPE_CHECKING:
    from edgecr.data.views import ProofData
    from edgecr.exporters.receipt import Receipt
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

PARITY_IMAGES = 64
"""Real images that an exported file is compared with PyTorch on."""


Limit = Annotated[float, Field(ge=0)] | Literal["auto"] | None
Share = Annotated[float, Field(ge=0, le=1)] | Literal["auto"] | None


class Parity(Options):
    """Limits on the difference between the exported file and PyTorch on real images.

    `auto` is the limit of the precision, null leaves a difference unjudged.
    """

    max_abs: Limit = "auto"
    """Largest absolute difference of any logit; auto: 1e-3 for fp32, else null."""
    max_rel: Limit = "auto"
    """Largest difference relative to the largest logit; auto: 1e-4 for fp32, 1e-2 for fp16, else null."""
    agreement: Share = "auto"
    """Smallest fraction of images on which both choose the same class; auto: 0.9 for int8, else 1."""
    cosine: Share = "auto"
    """Smallest cosine between both outputs for one image; auto: 0.95 for int8, 0.999 for fp16, else null."""

    def limits(self, precision: str) -> ParityLimits:
        """The limits with those of the precision in place of auto."""
        usual = _LIMITS.get(precision, ParityLimits())
        given = {key: getattr(self, key) for key in usual._fields}
        return usual._replace(**{key: value for key, value in given.items() if value != "auto"})


class ParityLimits(NamedTuple):
    """Limits as they are judged; None is not judged."""

    max_abs: float | None = 1e-3
    max_rel: float | None = 1e-4
    agreement: float | None = 1.0
    cosine: float | None = None


_LIMITS = {"fp16": ParityLimits(None, 1e-2, 1.0, 0.999), "int8": ParityLimits(None, None, 0.9, 0.95)}
"""The limits of the precisions that round; those of all others are the defaults."""


class Target(Options):
    """One named export declaration, a file in ``export/``; a subclass for each format adds the format's own keys."""

    runtimes: ClassVar[tuple[str, ...]] = ()
    """The runtimes that files of this format run in; a device measures in the first of them that it declares."""

    schema_version: Literal[1] = 1
    name: Name
    purpose: str
    format: str
    """The format of the file; it decides which further keys there are."""
    precision: str = "fp32"
    """The number format of weights and arithmetic."""
    parity: Parity = Parity()


AnyTargetOf = TypeVar("AnyTargetOf", bound=Target)


@dataclass(frozen=True)
class Written:
    """The part of a manifest that only the writer of a file knows."""

    main: str
    """The name of the main file, ``model`` with the format's ending; all other files of the folder belong to it."""
    input: dict[str, Any]
    outputs: list[dict[str, Any]]
    made_with: dict[str, Any]
    """Versions of the makers."""
    embedded: bool = False
    """True when scaling and normalisation are inside the file."""
    rounding: dict[str, Any] = field(default_factory=dict)
    """Settings that numbers of fewer bits were made with, as chosen; the lineage keeps them."""


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
