"""No augmentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecr.training.augmentations.base import augmentations

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@augmentations.register("none")
def unchanged(images: Tensor, generator: torch.Generator) -> Tensor:
    """Leaves the images as they are."""
    return images
