"""Declarations of architectures. Torch-free: recipes are checked with these classes."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from edgecr.core.options import Options
from edgecr.core.registry import Registry

if TYPE_CHECKING:
    from torch import nn


class Architecture(Options):
    """A model before surgery: its name, its number of classes and the options of its family."""

    usual_side: ClassVar[int] = 32
    """Height and width of the images that the family was made for."""

    arch: str
    """Name of the architecture."""
    classes: Annotated[int, Field(ge=1)] | None = None
    """Number of classes; taken from the data when left out."""
    weights: Path | None = None
    """A checkpoint to start from (safetensors, or a torch file of plain tensors)."""

    @abstractmethod
    def build(self, classes: int, *, allow_code: bool = False) -> nn.Module:
        """A freshly initialised module with that many classes; no weights are read or fetched here."""

    @property
    def starts_trained(self) -> bool:
        """True if the declaration names weights to start from."""
        return self.weights is not None

    def fetch_weights(self, module: nn.Module) -> tuple[str, ...]:
        """Fills a built module with published weights, where asked for; returns what they have no values for."""
        return ()


class ScaledArchitecture(Architecture):
    """An architecture whose layers may all be made wider or narrower by one factor."""

    width: Annotated[float, Field(gt=0, le=16)] = 1.0
    """Factor on the channels of all layers but the last, rounded to whole channels."""

    def scaled(self, channels: int, multiple: int = 1) -> int:
        """The channels at this width of a layer that has so many at width 1, in whole multiples."""
        return max(1, round(channels * self.width / multiple)) * multiple


families: Registry[type[Architecture]] = Registry("architecture")
"""The architectures with options of their own; ``torchvision:``, ``timm:`` and user code are not here."""
