"""Applies corruptions: what an image undergoes depends on the seed, its index and the condition only."""

from __future__ import annotations

import hashlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecr.core.errors import RequestError
from edgecr.robustness.conditions import Albumentation, Condition, Corruption

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # before the import, which would ask the network otherwise
_WITHOUT_TORCH = not {"torch", "albumentations"} & sys.modules.keys()
"""albumentations imports torch where it can, for one transform that no corruption uses; that would take seconds."""
if _WITHOUT_TORCH:
    sys.modules["albumentations.pytorch"] = None  # type: ignore[assignment]
import albumentations  # noqa: E402

if _WITHOUT_TORCH:
    del sys.modules["albumentations.pytorch"]  # whoever asks for it later still gets it

if TYPE_CHECKING:
    from edgecr.robustness.conditions import Spoiler


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


def spoiler_of(corruption: Albumentation, severity: int | None) -> Spoiler:
    """A transform of albumentations as a function of an image and a seed."""
    transform = transform_of(corruption, severity)

    def spoil(image: np.ndarray, seed: int) -> np.ndarray:
        transform.set_random_seed(seed)
        spoiled: np.ndarray = transform(image=image)["image"]
        return spoiled

    return spoil


def transform_of(corruption: Albumentation, severity: int | None) -> Any:
    """The transform, always applied; arguments it does not know are errors, where the library only warns."""
    name = Condition(corruption.name, severity).name
    maker = getattr(albumentations, corruption.transform, None)
    if maker is None:
        raise RequestError(f"Corruption {name!r}: albumentations has no {corruption.transform!r}.")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        try:
            return maker(**corruption.arguments_at(severity), p=1.0)
        except (UserWarning, TypeError, ValueError) as error:
            raise RequestError(f"Corruption {name!r}: {corruption.transform} refuses its arguments: {error}") from error


def image_seed(seed: int, index: int, name: str) -> int:
    """The 64-bit seed of one image under the condition of that name."""
    digest = hashlib.blake2b(f"{seed}/{index}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def library_versions() -> dict[str, str]:
    """The versions that the corrupted pixels depend on."""
    import cv2

    return {"albumentations": albumentations.__version__, "opencv": cv2.__version__, "numpy": np.__version__}
