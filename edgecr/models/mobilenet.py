"""The first MobileNet, which torchvision does not have (Howard et al. 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from edgecr.models.base import ScaledArchitecture, families

if TYPE_CHECKING:
    from torch import nn

_STEM = 32
_BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
)
"""Output channels and stride of each block at width 1."""


@families.register("mobilenet_v1")
class MobileNetV1(ScaledArchitecture):
    """Thirteen blocks of a depthwise and a 1x1 convolution behind a 3x3 stem, for 224x224 images."""

    usual_side: ClassVar[int] = 224

    arch: Literal["mobilenet_v1"]
    """Name of the architecture."""

    def build(self, classes: int, *, allow_code: bool = False) -> nn.Module:
        """A freshly initialised module with that many classes."""
        from edgecr.models.mobilenet_module import MobileNet

        blocks = [(self.scaled(channels), stride) for channels, stride in _BLOCKS]
        return MobileNet(self.scaled(_STEM), blocks, classes)
