"""The ResNeXt for 32x32 images of AugMix and of robustness benchmarks (Xie et al. 2017, Hendrycks et al. 2020)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from edgecr.models.base import families
from edgecr.models.cifar_resnet import CifarResNetBase, Three

_GROUPS = 4


@families.register("resnext29")
class ResNeXt29(CifarResNetBase):
    """ResNeXt-29 (4x32d) for 32x32 images: three stages of bottlenecks whose 3x3 convolutions have four groups."""

    stage_widths: ClassVar[tuple[int, ...]] = (128, 256, 512)

    arch: Literal["resnext29"]
    """Name of the architecture."""
    blocks: Three = (3, 3, 3)
    """Residual blocks in each stage."""

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the grouped convolutions of each stage: as many for each group."""
        return tuple(self.scaled(width, _GROUPS) for width in self.stage_widths)

    def _usual_stem(self) -> int:
        return self.widths[0] // 2

    def _structure(self) -> dict[str, Any]:
        return {"block": "grouped", "blocks": self.blocks, "shortcut": "B", "pool": False}
