"""Trainings on random images, for benchmarks of their pace: what is in an image does not matter for that."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from edgecr.data.base import Dataset, ImageSet, Preprocessing
from edgecr.training.observers import Observer
from edgecr.training.session import TrainingState

BATCH, CLASSES, SIZE = 128, 10, 32


class Memory(ImageSet):
    """Random images in memory."""

    def __init__(self, count: int) -> None:
        random = np.random.default_rng(0)
        self.pixels = torch.from_numpy(random.integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8))
        self.labels = random.integers(0, CLASSES, count)

    def images(self, indices: object) -> torch.Tensor:
        """The images at those indices."""
        return self.pixels[torch.as_tensor(np.asarray(indices))]


class Stopwatch(Observer):
    """Times from the end of the first update on: start-up is not the loop's pace."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock, self.moments = clock, list[float]()

    def after_step(self, session: TrainingState) -> None:
        """Notes the time."""
        self.moments.append(self.clock())

    @property
    def pace(self) -> float:
        """Images per second."""
        return BATCH * (len(self.moments) - 1) / (self.moments[-1] - self.moments[0])

    @property
    def step(self) -> float:
        """Seconds of an update, in the median."""
        return statistics.median(after - before for before, after in itertools.pairwise(self.moments))


def dataset(updates: int) -> Dataset:
    """The images of one update more than these, and none to validate or test on."""
    shape = Preprocessing((0.49, 0.48, 0.45), (0.2, 0.2, 0.2), (SIZE, SIZE))
    train, none = Memory(BATCH * (updates + 1)), Memory(0)
    names = tuple(map(str, range(CLASSES)))
    return Dataset("random", names, train, none, none, shape, "crop-flip", f"random-{updates}")
