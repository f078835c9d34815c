"""The embedded dataset: scikit-learn's 1,797 real handwritten digits, which need no download."""

from __future__ import annotations

from typing import Literal

import numpy as np

from edgecr.core.progress import Monitor
from edgecr.data.base import Dataset, DataSource, Deviations, Means, Seed, sources
from edgecr.data.splits import stratified

_SIDE = 32
_BRIGHTEST = 16  # the scanned 8x8 images have 17 levels
_VALIDATION, _TEST = 0.15, 0.25


@sources.register("digits")
class Digits(DataSource):
    """Handwritten digits of scikit-learn, enlarged to 32x32 RGB: 60 % train, 15 % validation, 25 % test."""

    name: Literal["digits"]
    """Name of the source."""
    mean: Means = (0.5, 0.5, 0.5)
    """Means that are subtracted from red, green and blue, on a scale from 0 to 1."""
    std: Deviations = (0.5, 0.5, 0.5)
    """Standard deviations that red, green and blue are then divided by."""
    seed: Seed = 0
    """Chooses which images are for training, validation and test."""

    def load(self, monitor: Monitor | None = None) -> Dataset:
        """Reads the images that come with scikit-learn."""
        from sklearn.datasets import load_digits

        from edgecr.data.sets import MemorySet, dataset_fingerprint

        raw = load_digits()
        images, labels = _enlarged(raw.images), raw.target
        parts = stratified(labels, (_VALIDATION, _TEST), self.seed)
        train, validation, test = (MemorySet(images[part], labels[part]) for part in parts)
        classes = tuple(str(digit) for digit in range(10))
        return Dataset(
            name=self.name,
            classes=classes,
            train=train,
            validation=validation,
            test=test,
            preprocessing=self.preprocessing(_SIDE, _SIDE),
            augmentation="shift",
            fingerprint=dataset_fingerprint(classes, (train, validation, test)),
            seen_by_steps=dataset_fingerprint(classes, (train, validation)),
        )


def _enlarged(grey: np.ndarray) -> np.ndarray:
    """8x8 images of 17 levels as 32x32 RGB of 256."""
    from PIL import Image

    levels = np.round(grey * (255 / _BRIGHTEST)).astype(np.uint8)
    large = [Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR) for image in levels]
    return np.repeat(np.stack([np.asarray(image) for image in large])[..., None], 3, axis=3)
