"""Wide residual networks for 32x32 images (Zagoruyko and Komodakis 2016).

Two networks are called WideResNet-18-2 where pruned and binary CARDs are compared (Diffenderfer et al. 2021).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from edgecr.models.base import ScaledArchitecture, families
from edgecr.models.cifar_resnet import Four, LargeResNet, Three

if TYPE_CHECKING:
    from torch import nn


@families.register("wide_resnet18_2")
class WideResNet18(LargeResNet):
    """ResNet-18 for 32x32 images with twice the channels, stem included: the WideResNet-18-2 of pruned CARDs."""

    stage_widths: ClassVar[tuple[int, ...]] = (128, 256, 512, 1024)
    block: ClassVar[str] = "basic"

    arch: Literal["wide_resnet18_2"]
    """Name of the architecture."""
    blocks: Four = (2, 2, 2, 2)
    """Residual blocks in each stage."""


class PreActWideResNetBase(ScaledArchitecture):
    """Stages of blocks that normalise and rectify before each convolution."""

    stem: ClassVar[int]
    """Channels of the first convolution at width 1."""
    stage_widths: ClassVar[tuple[int, ...]]
    """Channels of each stage at width 1."""
    structure: ClassVar[dict[str, Any]]
    """The choices of a family: learned scales of norms, the shortcut's origin, the classifier's biases."""

    def _built(self, blocks: tuple[int, ...], classes: int) -> nn.Module:
        from edgecr.models.wide_resnet_module import PreActWideResNet

        widths = [self.scaled(width) for width in self.stage_widths]
        return PreActWideResNet(self.scaled(self.stem), widths, blocks, classes, **self.structure)


@families.register("wide_resnet18_2_preact")
class PreActWideResNet18(PreActWideResNetBase):
    """WideResNet-18-2 of binary CARDs: normalises before each convolution, without learned scales or any biases."""

    stem: ClassVar[int] = 64
    stage_widths: ClassVar[tuple[int, ...]] = (64, 192, 384, 768)
    structure: ClassVar[dict[str, Any]] = {"affine": False, "adds_activated": True, "biased": False}

    arch: Literal["wide_resnet18_2_preact"]
    """Name of the architecture."""
    blocks: Four = (2, 2, 2, 2)
    """Residual blocks in each stage."""

    def build(self, classes: int, *, allow_code: bool = False) -> nn.Module:
        """A freshly initialised module with that many classes."""
        return self._built(self.blocks, classes)


@families.register("wrn16_8")
class WideResNet16(PreActWideResNetBase):
    """WRN-16-8: three stages of 16, 32 and 64 channels, eight times as wide, that normalise before each convolution."""

    stem: ClassVar[int] = 16
    stage_widths: ClassVar[tuple[int, ...]] = (128, 256, 512)
    structure: ClassVar[dict[str, Any]] = {"affine": True, "adds_activated": False, "biased": True}

    arch: Literal["wrn16_8"]
    """Name of the architecture."""
    blocks: Three = (2, 2, 2)
    """Residual blocks in each stage."""

    def build(self, classes: int, *, allow_code: bool = False) -> nn.Module:
        """A freshly initialised module with that many classes."""
        return self._built(self.blocks, classes)
