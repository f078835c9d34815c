"""Views of a dataset: each stage gets the images that it may see, and no way to the others."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from typing_extensions import Self

from edgecr.data.base import Dataset, ImageSet, Preprocessing
from edgecr.data.splits import spread
from edgecr.tasks import CLASSIFICATION, Task, tasks


@dataclass(frozen=True)
class LearningData:
    """The data that methods see: training images to learn from, validation images to decide by."""

    name: str
    classes: tuple[str, ...]
    train: ImageSet
    validation: ImageSet
    preprocessing: Preprocessing
    augmentation: str
    fingerprint: str
    """Changes whenever a class, or a training or validation image or label, changes."""
    task: Task = CLASSIFICATION
    labelled: bool = True
    """False where the labels are stand-ins, which nothing may learn from or score."""

    @classmethod
    def of(cls, data: Dataset) -> Self:
        """The dataset without its test images."""
        return cls(
            name=data.name,
            classes=data.classes,
            train=data.train,
            validation=data.validation,
            preprocessing=data.preprocessing,
            augmentation=data.augmentation,
            fingerprint=data.seen_by_steps or data.fingerprint,
            task=tasks.get(data.task),
            labelled=data.labelled,
        )


@dataclass(frozen=True)
class ProofData:
    """The data that exporters see: training images to calibrate with, validation images to prove a file on.

    Both are spread over the classes: image lists are often sorted by class, so the first ones would be of one class.
    """

    classes: tuple[str, ...]
    preprocessing: Preprocessing
    fingerprint: str
    """Changes whenever a class, or a training or validation image or label, changes."""
    _train: ImageSet = field(repr=False)
    _validation: ImageSet = field(repr=False)
    task: Task = CLASSIFICATION
    labelled: bool = True
    """False where the labels are stand-ins, which nothing may score."""

    @classmethod
    def of(cls, data: Dataset) -> Self:
        """The dataset without its test images."""
        seen, task = data.seen_by_steps or data.fingerprint, tasks.get(data.task)
        return cls(data.classes, data.preprocessing, seen, data.train, data.validation, task, data.labelled)

    def calibration(self, count: int) -> np.ndarray:
        """At most so many training images, uint8 NHWC."""
        return self._train.numpy(spread(self._train.labels, count))

    def parity(self, count: int) -> np.ndarray:
        """At most so many validation images, uint8 NHWC."""
        return self._validation.numpy(spread(self._validation.labels, count))

    def judging(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """At most so many validation images, uint8 NHWC, with their targets."""
        chosen = spread(self._validation.labels, count)
        return self._validation.numpy(chosen), np.asarray(self._validation.labels)[chosen]


@dataclass(frozen=True)
class HeldOutData:
    """The data that the robustness stage sees: the test images, which no method and no exporter has seen."""

    classes: tuple[str, ...]
    test: ImageSet
    task: Task = CLASSIFICATION
    labelled: bool = True
    """False where the labels are stand-ins, which nothing may score."""

    @classmethod
    def of(cls, data: Dataset) -> Self:
        """The dataset without its training and validation images."""
        return cls(data.classes, data.test, tasks.get(data.task), data.labelled)
