"""The small DenseNet for 32x32 images that torchvision does not have (Huang et al. 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from edgecr.models.base import ScaledArchitecture, families
from edgecr.models.cifar_resnet import Three

if TYPE_CHECKING:
    from torch import nn

_GROWTH = 12


@families.register("densenet22_bc")
class DenseNet22(ScaledArchitecture):
    """DenseNet-BC of 22 layers: three dense blocks, each layer adding 12 channels, with halvings between the blocks."""

    arch: Literal["densenet22_bc"]
    """Name of the architecture."""
    blocks: Three = (3, 3, 3)
    """Layers in each dense block."""

    def build(self, classes: int, *, allow_code: bool = False) -> nn.Module:
        """A freshly initialised module with that many classes."""
        from edgecr.models.densenet_cifar_module import CifarDenseNet

        return CifarDenseNet(self.scaled(_GROWTH), self.blocks, classes)
