"""Small shifts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecr.training.augmentations.base import augmentations, cropped

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@augmentations.register("shift")
def shift(images: Tensor, generator: torch.Generator) -> Tensor:
    """Moves each image by up to two pixels each way. Suits digits: nothing is mirrored."""
    return cropped(images, 2, generator)
