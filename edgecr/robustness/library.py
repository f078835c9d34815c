"""albumentations, imported without torch and without asking the network, and its transforms as plain functions."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from edgecr.core.errors import RequestError

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # before the import, which would ask the network otherwise
_WITHOUT_TORCH = not {"torch", "albumentations"} & sys.modules.keys()
"""albumentations imports torch where it can, for one transform that no corruption uses; that would take seconds."""
if _WITHOUT_TORCH:
    sys.modules["albumentations.pytorch"] = None  # type: ignore[assignment]
import albumentations  # noqa: E402

if _WITHOUT_TORCH:
    del sys.modules["albumentations.pytorch"]  # whoever asks for it later still gets it


def transforming(name: str, transform: str, arguments: Mapping[str, Any]) -> Callable[[np.ndarray, int], np.ndarray]:
    """A transform, always applied, as a function of an image and a seed; ``name`` is the condition in errors."""
    made = _transform(name, transform, arguments)

    def spoil(image: np.ndarray, seed: int) -> np.ndarray:
        made.set_random_seed(seed)
        spoiled: np.ndarray = made(image=image)["image"]
        return spoiled

    return spoil


def _transform(name: str, transform: str, arguments: Mapping[str, Any]) -> Any:
    """The transform; arguments it does not know are errors, where the library only warns."""
    maker = getattr(albumentations, transform, None)
    if maker is None:
        raise RequestError(f"Corruption {name!r}: albumentations has no {transform!r}.")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        try:
            return maker(**arguments, p=1.0)
        except (UserWarning, TypeError, ValueError) as error:
            raise RequestError(f"Corruption {name!r}: {transform} refuses its arguments: {error}") from error


def library_versions() -> dict[str, str]:
    """The versions that the corrupted pixels depend on."""
    import cv2

    return {"albumentations": albumentations.__version__, "opencv": cv2.__version__, "numpy": np.__version__}
