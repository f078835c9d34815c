"""Applies corruptions: what an image undergoes depends on the seed, its index and the corruption only."""

from __future__ import annotations

import hashlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgecr.core.errors import RequestError
from edgecr.robustness.suites import Corruption

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # before the import, which would ask the network otherwise
_WITHOUT_TORCH = not {"torch", "albumentations"} & sys.modules.keys()
"""albumentations imports torch where it can, for one transform that no corruption uses; that would take seconds."""
if _WITHOUT_TORCH:
    sys.modules["albumentations.pytorch"] = None  # type: ignore[assignment]
import albumentations  # noqa: E402

if _WITHOUT_TORCH:
    del sys.modules["albumentations.pytorch"]  # whoever asks for it later still gets it


def corrupt(images: np.ndarray, indices: Sequence[int] | np.ndarray, corruption: Corruption, seed: int) -> np.ndarray:
    """uint8 NHWC RGB in and out; ``indices`` name the images, so that order and batch do not matter."""
    transform = transform_of(corruption)
    spoiled = np.empty_like(images)
    for place, (image, index) in enumerate(zip(images, indices, strict=True)):
        transform.set_random_seed(image_seed(seed, int(index), corruption.name))
        spoiled[place] = transform(image=image.copy())["image"]
    return spoiled


def transform_of(corruption: Corruption) -> Any:
    """The transform, always applied; arguments it does not know are errors, where the library only warns."""
    maker = getattr(albumentations, corruption.transform, None)
    if maker is None:
        raise RequestError(f"Corruption {corruption.name!r}: albumentations has no {corruption.transform!r}.")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        try:
            return maker(**corruption.arguments, p=1.0)
        except (UserWarning, TypeError, ValueError) as error:
            raise RequestError(
                f"Corruption {corruption.name!r}: {corruption.transform} refuses its arguments: {error}"
            ) from error


def image_seed(seed: int, index: int, name: str) -> int:
    """The 64-bit seed of one image under one corruption."""
    digest = hashlib.blake2b(f"{seed}/{index}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def library_versions() -> dict[str, str]:
    """The versions that the corrupted pixels depend on."""
    import cv2

    return {"albumentations": albumentations.__version__, "opencv": cv2.__version__, "numpy": np.__version__}
