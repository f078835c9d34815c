"""Export targets as declared, the limits of their parity, and what a writer tells of its files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Field
from typing_extensions import Self

from edgecr.core.names import Name
from edgecr.core.options import Options

PARITY_IMAGES = 64
"""Real images that an exported file is compared with PyTorch on."""


Limit = Annotated[float, Field(ge=0)] | Literal["auto"] | None
Share = Annotated[float, Field(ge=0, le=1)] | Literal["auto"] | None


class Parity(Options):
    """Limits on the difference between the exported file and PyTorch on real images.

    `auto` is the limit of the precision, null leaves a difference unjudged.
    """

    max_abs: Limit = "auto"
    """Largest absolute difference of any logit; auto: 1e-3 for fp32, else null.

    Where activations are binary auto is that of `precision: binary` in float32 files too: the last bit of a float
    decides about a whole step.
    """
    max_rel: Limit = "auto"
    """Largest difference relative to the largest logit; auto: 1e-4 for fp32, 1e-2 for fp16, else null."""
    agreement: Share = "auto"
    """Smallest fraction of images on which both choose the same class; auto: 0.9 for int8, 0.95 for binary, else 1."""
    cosine: Share = "auto"
    """Cosine between both outputs that 19 images in 20 must reach.

    auto: 0.8 for int8, 0.99 for binary, 0.999 for fp16, else null.
    """

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


BINARY = "binary"
"""The precision of files that compute with signs."""
_LIMITS = {
    "fp16": ParityLimits(None, 1e-2, 1.0, 0.999),
    "int8": ParityLimits(None, None, 0.9, 0.8),
    BINARY: ParityLimits(None, None, 0.95, 0.99),
}
"""The limits of the precisions that round; those of all others are the defaults."""


class Target(Options):
    """One named export declaration, a file in ``export/``; a subclass for each format adds the format's own keys."""

    runtimes: ClassVar[tuple[str, ...]] = ()
    """The runtimes that files of this format run in; a device measures in the first of them that it declares."""

    main: ClassVar[str] = ""
    """The name of the main file, where the format knows it; needed where others are called ``model`` too."""

    schema_version: Literal[1] = 1
    name: Name
    purpose: str
    format: str
    """The format of the file; it decides which further keys there are."""
    precision: str = "fp32"
    """The number format of weights and arithmetic."""
    parity: Parity = Parity()

    @property
    def block(self) -> int | None:
        """Channels that kernels of this format and precision take at once; None where the device is what tells."""
        return None

    def uncompressed(self) -> Self:
        """The target that a baseline is exported for: the same in float32, with nothing packed."""
        return self

    def _changed(self, **options: Any) -> Self:
        return type(self).parse(self.plain() | options)


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
