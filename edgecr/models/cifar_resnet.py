"""The residual networks for 32x32 images that neither torchvision nor timm has (He et al. 2016)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from edgecr.models.base import ScaledArchitecture, families

if TYPE_CHECKING:
    from torch import nn

Count = Annotated[int, Field(ge=1, le=1000)]
Three = Annotated[tuple[Count, ...], Field(min_length=3, max_length=3)]
Four = Annotated[tuple[Count, ...], Field(min_length=4, max_length=4)]


class CifarResNetBase(ScaledArchitecture):
    """The option that all of them share, and the widths of the stages."""

    stage_widths: ClassVar[tuple[int, ...]]
    """Channels of each stage at width 1."""

    stem_width: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Channels of the first convolution; as many as the first stage when left out (half as many in ResNeXt)."""

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each stage."""
        return tuple(self.scaled(width) for width in self.stage_widths)

    def build(self, classes: int, *, allow_code: bool = False) -> nn.Module:
        """A freshly initialised module with that many classes."""
        from edgecr.models.cifar_resnet_module import CifarResNet

        stem = self.stem_width or self._usual_stem()
        return CifarResNet(stem=stem, widths=self.widths, classes=classes, **self._structure())

    def _usual_stem(self) -> int:
        """Returns the channels of the first convolution where nothing else is asked for."""
        return self.widths[0]

    def _structure(self) -> dict[str, Any]:
        """Returns the choices of a family: the block, blocks per stage, the shortcut, the pooling of the stem."""
        raise NotImplementedError


def _blocks(arch: str) -> tuple[int, ...]:
    """The basic blocks in each stage of the network that a name counts the layers of."""
    layers = int(arch.removeprefix("resnet").partition("_")[0])
    return ((layers - 2) // 6,) * 3


@families.register("resnet20", "resnet32", "resnet44", "resnet56", "resnet110")
class SmallResNet(CifarResNetBase):
    """Three stages of 16, 32 and 64 channels; the number in the name counts its layers."""

    stage_widths: ClassVar[tuple[int, ...]] = (16, 32, 64)

    arch: Literal["resnet20", "resnet32", "resnet44", "resnet56", "resnet110"]
    """Name of the architecture."""
    blocks: Three | None = None
    """Residual blocks in each stage; as many as the name says when left out."""
    shortcut: Literal["A", "B"] = "A"
    """Shortcut where the shape changes: A subsamples and pads with zero channels, B is a 1x1 convolution."""

    @model_validator(mode="after")
    def _padding_only_adds(self) -> SmallResNet:
        if self.shortcut == "A" and (self.stem_width or 0) > self.widths[0]:
            raise ValueError(
                f"shortcut A can only add channels, but the stem has {self.stem_width} and the first stage "
                f"{self.widths[0]}; use shortcut B or a smaller stem_width"
            )
        return self

    def _structure(self) -> dict[str, Any]:
        return {"block": "basic", "blocks": self.blocks or _blocks(self.arch), "shortcut": self.shortcut, "pool": False}


@families.register("resnet56_bottleneck", "resnet110_bottleneck")
class SmallBottleneckResNet(CifarResNetBase):
    """ResNet-56 and -110 as Lost in Pruning ran them: as many blocks as these, but bottlenecks of three convolutions.

    They have 83 and 164 layers (Liebenwein et al. 2021); shortcuts that change the shape are 1x1 convolutions.
    """

    stage_widths: ClassVar[tuple[int, ...]] = (16, 32, 64)

    arch: Literal["resnet56_bottleneck", "resnet110_bottleneck"]
    """Name of the architecture."""
    blocks: Three | None = None
    """Residual blocks in each stage; 9 or 18, as in the basic network of that name, when left out."""

    def _structure(self) -> dict[str, Any]:
        return {"block": "bottleneck", "blocks": self.blocks or _blocks(self.arch), "shortcut": "B", "pool": False}


class LargeResNet(CifarResNetBase):
    """Four stages of 64 to 512 channels, as for ImageNet, behind a 3x3 stem."""

    stage_widths: ClassVar[tuple[int, ...]] = (64, 128, 256, 512)
    block: ClassVar[str]

    blocks: Four
    """Residual blocks in each stage."""
    stem: Literal["conv", "conv-pool"] = "conv"
    """A 3x3 convolution of stride 1, alone or followed by a 3x3 max-pooling of stride 2."""

    def _structure(self) -> dict[str, Any]:
        pool = self.stem == "conv-pool"
        return {"block": self.block, "blocks": self.blocks, "shortcut": "B", "pool": pool}


@families.register("resnet18_cifar")
class ResNet18(LargeResNet):
    """ResNet-18 for 32x32 images: two basic blocks a stage."""

    block: ClassVar[str] = "basic"

    arch: Literal["resnet18_cifar"]
    """Name of the architecture."""
    blocks: Four = (2, 2, 2, 2)
    """Residual blocks in each stage."""


@families.register("resnet50_cifar")
class ResNet50(LargeResNet):
    """ResNet-50 for 32x32 images: bottleneck blocks with four times as many output channels."""

    block: ClassVar[str] = "bottleneck"

    arch: Literal["resnet50_cifar"]
    """Name of the architecture."""
    blocks: Four = (3, 4, 6, 3)
    """Residual blocks in each stage."""
