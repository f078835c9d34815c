"""The contract of augmentations: random changes to whole batches of images, without a loop over images. Torch-free."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from edgecr.core.registry import Registry

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Augmentation = Callable[["Tensor", "torch.Generator"], "Tensor"]

augmentations: Registry[Augmentation] = Registry("augmentation")
"""Each takes uint8 NHWC images and a CPU generator, and gives uint8 NHWC images of the same shape."""


def cropped(images: Tensor, reach: int, generator: torch.Generator) -> Tensor:
    """Pads by ``reach`` black pixels and cuts a window of the old size at a random place of each image."""
    import torch
    from torch.nn import functional

    count, height, width, _ = images.shape
    padded = functional.pad(images, (0, 0, reach, reach, reach, reach))
    windows = padded.unfold(1, height, 1).unfold(2, width, 1)
    top, left = torch.randint(0, 2 * reach + 1, (2, count), generator=generator).to(images.device)
    return windows[torch.arange(count, device=images.device), top, left].permute(0, 2, 3, 1)
