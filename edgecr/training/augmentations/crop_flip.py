"""Random crops and mirror images: the standard augmentation of small photographs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecr.training.augmentations.base import augmentations, cropped

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@augmentations.register("crop-flip")
def crop_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Moves each image by up to four pixels each way and mirrors half of them (He et al. 2016)."""
    import torch

    moved = cropped(images, 4, generator)
    mirrored = torch.rand(len(images), generator=generator).to(images.device) < 0.5
    return torch.where(mirrored[:, None, None, None], moved.flip(2), moved)
