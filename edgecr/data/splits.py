"""Dividing labelled images by class: into disjoint parts, and into samples; always alike for the same seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def stratified(labels: np.ndarray, fractions: Sequence[float], seed: int) -> list[np.ndarray]:
    """Indices of the rest and of one part for each fraction; each class gives its share to each part.

    A part gets at least one image of each class, as long as one stays in the rest.
    """
    random = np.random.RandomState(seed)  # the one generator whose stream numpy promises never to change
    parts: list[list[int]] = [[] for _ in range(len(fractions) + 1)]
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label)).tolist()
        total = len(members)
        for part, fraction in zip(parts[1:], fractions):
            share = min(max(1, round(fraction * total)), len(members) - 1)
            part += members[:share]
            members = members[share:]
        parts[0] += members
    return [np.sort(np.array(part, dtype=np.int64)) for part in parts]


def spread(labels: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Rising indices of at most ``count`` images, drawn by the seed; the classes have as equal shares as they can."""
    shuffled = np.random.RandomState(seed % 2**32).permutation(len(labels))
    by_class = np.argsort(labels[shuffled], kind="stable")
    _, starts, sizes = np.unique(labels[shuffled][by_class], return_index=True, return_counts=True)
    turn = np.empty(len(labels), dtype=np.int64)
    turn[by_class] = np.arange(len(labels)) - np.repeat(starts, sizes)
    # Each class gives one image a turn; in the last turn chance decides which classes give one more.
    return np.sort(shuffled[np.argsort(turn, kind="stable")[:count]])
