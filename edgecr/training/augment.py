"""Random changes to whole batches of images: uint8 in, normalised floats out, no loop over images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from edgecr.core.registry import Registry
from edgecr.data.base import Preprocessing

Augmentation = Callable[[Tensor, torch.Generator], Tensor]

augmentations: Registry[Augmentation] = Registry("augmentation")
"""Each takes uint8 NHWC images and a CPU generator, and gives uint8 NHWC images of the same shape."""


@augmentations.register("none")
def keep(images: Tensor, generator: torch.Generator) -> Tensor:
    """Leaves the images as they are."""
    return images


@augmentations.register("shift")
def shift(images: Tensor, generator: torch.Generator) -> Tensor:
    """Moves each image by up to two pixels each way. Suits digits: nothing is mirrored."""
    return _crop(images, 2, generator)


@augmentations.register("crop-flip")
def crop_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Moves each image by up to four pixels each way and mirrors half of them (He et al. 2016)."""
    moved = _crop(images, 4, generator)
    mirrored = torch.rand(len(images), generator=generator).to(images.device) < 0.5
    return torch.where(mirrored[:, None, None, None], moved.flip(2), moved)


def _crop(images: Tensor, reach: int, generator: torch.Generator) -> Tensor:
    """Pads by ``reach`` black pixels and cuts a window of the old size at a random place of each image."""
    count, height, width, _ = images.shape
    padded = functional.pad(images, (0, 0, reach, reach, reach, reach))
    windows = padded.unfold(1, height, 1).unfold(2, width, 1)
    top, left = torch.randint(0, 2 * reach + 1, (2, count), generator=generator).to(images.device)
    return windows[torch.arange(count, device=images.device), top, left].permute(0, 2, 3, 1)


@dataclass(frozen=True)
class Inputs:
    """Turns stored images into a model's input on its device, in the order in memory that it works with."""

    preprocessing: Preprocessing
    device: torch.device
    order: torch.memory_format = torch.channels_last

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 NHWC in, normalised float32 NCHW out."""
        std = torch.tensor(self.preprocessing.std, device=self.device)
        mean = torch.tensor(self.preprocessing.mean, device=self.device)
        scaled = torch.addcmul(-mean / std, images.to(self.device), 1 / (255 * std))
        return scaled.permute(0, 3, 1, 2).contiguous(memory_format=self.order)

    def augmented(self, images: Tensor, augmentation: Augmentation, seed: int) -> Tensor:
        """The same after a random change that depends on the seed alone."""
        generator = torch.Generator().manual_seed(seed)
        return self.normalise(augmentation(images.to(self.device), generator))
