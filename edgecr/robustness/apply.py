"""Applies corruptions: what an image undergoes depends on the seed, its index and the condition only."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from edgecr.core.errors import RequestError
from edgecr.robustness.conditions import Condition, Corruption


def corrupt(
    images: np.ndarray,
    indices: Sequence[int] | np.ndarray,
    corruption: Corruption,
    seed: int,
    severity: int | None = None,
) -> np.ndarray:
    """uint8 NHWC RGB in and out; ``indices`` name the images, so that order and batch do not matter."""
    spoil, name = corruption.prepared(severity), Condition(corruption.name, severity).name
    spoiled = np.empty_like(images)
    for place, (image, index) in enumerate(zip(images, indices, strict=True)):
        after = spoil(image.copy(), image_seed(seed, int(index), name))
        if getattr(after, "dtype", None) != np.uint8 or after.shape != image.shape:
            given = f"{getattr(after, 'dtype', type(after).__name__)} of shape {getattr(after, 'shape', ())}"
            raise RequestError(f"Corruption {name!r} gave {given}; it must give uint8 of shape {image.shape}.")
        spoiled[place] = after
    return spoiled


def image_seed(seed: int, index: int, name: str) -> int:
    """The 64-bit seed of one image under the condition of that name."""
    digest = hashlib.blake2b(f"{seed}/{index}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")
