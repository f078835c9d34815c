"""VGG with batch norms for 32x32 images: one linear classifier on 512 features (Simonyan and Zisserman 2015)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from edgecr.models.base import ScaledArchitecture, families

if TYPE_CHECKING:
    from torch import nn

_WIDTHS = (64, 128, 256, 512, 512)
_LAYERS = {"vgg16_bn_cifar": (2, 2, 3, 3, 3), "vgg19_bn_cifar": (2, 2, 4, 4, 4)}
"""Convolutions in front of each pooling."""


@families.register(*_LAYERS)
class CifarVgg(ScaledArchitecture):
    """VGG-16 and VGG-19 for 32x32 images: five runs of 3x3 convolutions with batch norms, each before a pooling."""

    arch: Literal["vgg16_bn_cifar", "vgg19_bn_cifar"]
    """Name of the architecture."""

    def build(self, classes: int, *, allow_code: bool = False) -> nn.Module:
        """A freshly initialised module with that many classes."""
        from edgecr.models.vgg_cifar_module import Vgg

        runs = [(self.scaled(width), layers) for width, layers in zip(_WIDTHS, _LAYERS[self.arch])]
        return Vgg(runs, classes)
