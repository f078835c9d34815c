"""What a dataset is: three image sets kept apart, and how their images become a model's input."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecr.options import Options
from edgecr.registry import Registry

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Preprocessing:
    """How uint8 RGB images become a model's input: ``(x / 255 - mean) / std`` in the given height and width."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    size: tuple[int, int]

    def apply(self, images: np.ndarray) -> np.ndarray:
        """uint8 NHWC of the right size in, float32 NCHW out."""
        scaled = (images.astype(np.float32) / np.float32(255) - np.float32(self.mean)) / np.float32(self.std)
        return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


class ImageSet(ABC):
    """Labelled images that can be fetched by index; small ones lie in memory, large ones stream from disk."""

    labels: np.ndarray
    """int64, one for each image."""

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def images(self, indices: Sequence[int] | np.ndarray) -> torch.Tensor:
        """The images at those indices as one uint8 NHWC tensor of the dataset's size."""

    def numpy(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The same as a numpy array, for predictors."""
        array: np.ndarray = self.images(indices).numpy()
        return array


@dataclass(frozen=True)
class Dataset:
    """Train, validation and test images; decisions only ever see validation, figures of merit only test."""

    name: str
    classes: tuple[str, ...]
    train: ImageSet
    validation: ImageSet
    test: ImageSet
    preprocessing: Preprocessing
    augmentation: str
    """What training uses unless told otherwise: ``none``, ``shift`` (small shifts) or ``crop-flip``."""
    fingerprint: str
    """Changes whenever an image, a label or a split changes."""


class DataSource(Options):
    """Where a dataset comes from; the fields of a subclass are its YAML keys."""

    @abstractmethod
    def load(self) -> Dataset:
        """Reads the data; every problem is an EdgecrError that says what to do."""


sources: Registry[type[DataSource]] = Registry("dataset")
