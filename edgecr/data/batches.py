"""Batches of an image set, in an order that only the seed and the epoch decide."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

from edgecr.data.base import ImageSet


class Share(NamedTuple):
    """The part of each batch that one of several processes takes: every ``of``-th image from number ``number`` on."""

    number: int = 0
    of: int = 1

    def take(self, indices: np.ndarray) -> np.ndarray:
        """This process's part of a batch."""
        return indices[self.number :: self.of]


WHOLE = Share()
"""All of each batch: one process works alone."""


class Batch(NamedTuple):
    """Indices into the set, uint8 NHWC images and int64 labels."""

    indices: np.ndarray
    images: torch.Tensor
    labels: torch.Tensor


def train_batches(
    image_set: ImageSet, batch: int, seed: int, epoch: int, start_batch: int = 0, share: Share = WHOLE
) -> Iterator[Batch]:
    """One epoch in its random order, from a batch on; a last one of a single image is dropped.

    Batch normalisation cannot learn from a single image. Only the images of the own share are read.
    """
    order = epoch_order(len(image_set), seed, epoch)
    parts = _cut(order, batch)[start_batch : batch_count(len(order), batch)]
    return _fetched(image_set, [share.take(part) for part in parts])


def eval_batches(image_set: ImageSet, batch: int, share: Share = WHOLE) -> Iterator[Batch]:
    """Every image of the own share once, in the set's own order."""
    return _fetched(image_set, _cut(share.take(np.arange(len(image_set))), batch))


def batch_count(images: int, batch: int) -> int:
    """Counts the batches that ``train_batches`` gives in one epoch."""
    whole, rest = divmod(images, batch)
    return whole + (rest > 1)


def epoch_order(images: int, seed: int, epoch: int) -> np.ndarray:
    """The order of all indices in one epoch; a pure function of its arguments, for seeds of any size."""
    random = np.random.RandomState([*_words(seed), epoch])  # numpy promises never to change its stream
    return random.permutation(images)


def _words(seed: int) -> list[int]:
    """A whole number in words of 32 bits, the lowest first: numpy takes no larger ones."""
    words = [seed & 0xFFFFFFFF]
    while seed := seed >> 32:
        words.append(seed & 0xFFFFFFFF)
    return words


def _cut(order: np.ndarray, batch: int) -> list[np.ndarray]:
    return [order[start : start + batch] for start in range(0, len(order), batch)]


def _fetched(image_set: ImageSet, parts: list[np.ndarray]) -> Iterator[Batch]:
    """The batches themselves; streams are read one batch ahead, in a thread."""

    def fetch(indices: np.ndarray) -> Batch:
        return Batch(indices, image_set.images(indices), torch.from_numpy(image_set.labels[indices]))

    if not image_set.streams:
        yield from map(fetch, parts)
        return
    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(fetch, parts[0]) if parts else None
        for following in [*parts[1:], None]:
            if coming is None:
                return
            ready = coming.result()
            coming = None if following is None else ahead.submit(fetch, following)
            yield ready
