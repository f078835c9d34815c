"""A few training images for scores that need some; never validation or test images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice

import torch

from edgecr.data.batches import train_batches
from edgecr.data.views import LearningData
from edgecr.surgery.scoring.taylor import Batch
from edgecr.training.inputs import Inputs


@dataclass(frozen=True)
class TrainingSample:
    """A few mini-batches of unchanged training images, the same ones each time they are asked for."""

    data: LearningData
    seed: int
    order: torch.memory_format = torch.channels_last
    """The order in memory of the images."""
    batches: int = 8
    size: int = 64

    def __iter__(self) -> Iterator[Batch]:
        """Normalised NCHW images and labels, from as many epochs as it takes."""
        inputs = Inputs(self.data.preprocessing, torch.device("cpu"), self.order)
        size = min(self.size, len(self.data.train))
        drawn = chain.from_iterable(train_batches(self.data.train, size, self.seed, n) for n in range(self.batches))
        for batch in islice(drawn, self.batches):
            yield inputs.normalise(batch.images), batch.labels
