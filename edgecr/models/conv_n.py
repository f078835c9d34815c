"""The plain networks Conv-2 to Conv-8 of the lottery ticket papers (Frankle and Carbin 2019, Ramanujan et al. 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from edgecr.models.base import ScaledArchitecture, families

if TYPE_CHECKING:
    from torch import nn

_WIDTHS = (64, 128, 256, 512)
_HIDDEN = 256


@families.register("conv2", "conv4", "conv6", "conv8")
class ConvN(ScaledArchitecture):
    """Pairs of 3x3 convolutions with poolings, then three of 1x1; no biases or batch norms. For 32x32 images only."""

    arch: Literal["conv2", "conv4", "conv6", "conv8"]
    """Name of the architecture."""

    def build(self, classes: int, *, allow_code: bool = False) -> nn.Module:
        """A freshly initialised module with that many classes."""
        from edgecr.models.conv_n_module import PlainConvNet

        pairs = int(self.arch.removeprefix("conv")) // 2
        widths = [self.scaled(width) for width in _WIDTHS[:pairs]]
        return PlainConvNet(widths, self.scaled(_HIDDEN), self.usual_side, classes)
