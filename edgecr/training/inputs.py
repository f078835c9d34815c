"""Stored images as a model's input: normalised, on its device, in its order in memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edgecr.data.base import Preprocessing
from edgecr.training.augmentations import Augmentation


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
