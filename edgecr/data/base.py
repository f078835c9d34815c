"""Datasets: three image sets kept apart, and the preprocessing that turns their images into a model's input."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from edgecr.core.options import Options
from edgecr.core.progress import Monitor
from edgecr.core.registry import Registry

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Preprocessing:
    """Converts uint8 RGB images to a model's input: ``(x / 255 - mean) / std`` in that height and width."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    size: tuple[int, int]

    def apply(self, images: np.ndarray) -> np.ndarray:
        """uint8 NHWC of the right size in, float32 NCHW out."""
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        scaled = (images.astype(np.float32) / np.float32(255) - mean) / std
        return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


NO_LABEL = -2
"""The stand-in for the class of an image that nobody labelled; no class has that number, and nothing may score it."""


class ImageSet(ABC):
    """Images that can be fetched by index; small ones lie in memory, large ones stream from disk."""

    labels: np.ndarray
    """The task's targets, one row for each image; classes as int64, ``NO_LABEL`` where there are none."""
    streams: ClassVar[bool] = False
    """True if images are read from disk each time, so that prefetching the next ones pays."""

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
    """Train, validation and test images; stages get views of them (``edgecr.data.views``), never all three."""

    name: str
    classes: tuple[str, ...]
    """Names in the order of a model's outputs; empty where nobody knows them."""
    train: ImageSet
    validation: ImageSet
    test: ImageSet
    preprocessing: Preprocessing
    augmentation: str
    """Augmentation that training uses by default: ``none``, ``shift`` (small shifts) or ``crop-flip``."""
    fingerprint: str
    """Changes whenever an image, a label, a split or the task changes."""
    seen_by_steps: str = ""
    """The same for the classes, training and validation images alone: all that a step may depend on."""
    task: str = "classification"
    """Name of the task among ``edgecr.tasks``: the question that a model answers about the images."""
    labelled: bool = True
    """False where nobody knows the right answers: the labels are stand-ins, and no accuracy exists."""


Augmentation = Literal["none", "shift", "crop-flip"]
Fraction = Annotated[float, Field(gt=0, lt=0.5)]
Means = tuple[float, float, float]
Deviation = Annotated[float, Field(gt=0)]
Deviations = tuple[Deviation, Deviation, Deviation]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class DataSource(Options):
    """The source of a dataset; the fields of a subclass are its YAML keys."""

    name: str
    """Name of the source."""
    mean: Means = (0.485, 0.456, 0.406)
    """Means that are subtracted from red, green and blue, on a scale from 0 to 1."""
    std: Deviations = (0.229, 0.224, 0.225)
    """Standard deviations that red, green and blue are then divided by."""

    @abstractmethod
    def load(self, monitor: Monitor | None = None) -> Dataset:
        """Reads the data; every problem is an EdgecrError that says what to do."""

    def has_labels(self) -> bool:
        """False where a look at the names of the files already shows that there are no labels."""
        return True

    def preprocessing(self, height: int, width: int) -> Preprocessing:
        """The preprocessing that turns images of that size into a model's input."""
        return Preprocessing(self.mean, self.std, (height, width))


sources: Registry[type[DataSource]] = Registry("dataset")
