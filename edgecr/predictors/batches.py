"""Functions that all predictors share: images are checked, and fed in portions that fit into memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgecr.core.errors import RequestError
from edgecr.tasks import Outputs


def check_images(images: np.ndarray, size: tuple[int, int]) -> None:
    """Refuses anything but uint8 NHWC RGB images of the model's size."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise RequestError(
            f"Images must be uint8 in the layout NHWC with 3 channels, not {images.dtype} of shape {images.shape}."
        )
    if images.shape[1:3] != tuple(size):
        raise RequestError(
            f"The model wants images of {size[0]}x{size[1]} pixels, these have "
            f"{images.shape[1]}x{images.shape[2]}; resize the data to the model's size."
        )


def in_portions(images: np.ndarray, portion: int, run: Callable[[np.ndarray], Outputs]) -> Outputs:
    """The outputs for at most ``portion`` images at a time, joined; no images give no outputs."""
    parts = [run(images[start : start + portion]) for start in range(0, len(images), portion)]
    return {name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else ())}
