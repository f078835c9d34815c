"""Channel slots: who is tied to whom, as integer arrays.

A slot is one channel that lives or goes as a whole. Every tensor that flows through a model carries an array
of slot ids that broadcasts to its shape, so permuting, viewing and slicing a tensor does the same to its ids.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]
"""One figure for each channel."""


@dataclass(frozen=True)
class Slots:
    """The ids of one tensor: an array of the tensor's rank, of size 1 where ids do not vary."""

    ids: Ids
    zero: bool = True
    """True if a channel that is masked where it is made is still zero here (false after a sigmoid)."""
    constant: bool = False
    """True if the tensor comes from parameters alone."""

    def along(self, axis: int) -> Ids | None:
        """The ids as a vector when they vary along this axis only."""
        return self.ids.ravel() if self.ids.size == self.ids.shape[axis] else None

    def varying(self) -> tuple[int, ...]:
        """The axes along which the ids vary."""
        return tuple(axis for axis, size in enumerate(self.ids.shape) if size > 1)


@dataclass(frozen=True)
class Tie:
    """Two rows of slots that must be kept or removed together, position by position, and why."""

    left: Ids
    right: Ids
    why: str


@dataclass(frozen=True)
class Freeze:
    """Slots that may not be removed, and why."""

    ids: Ids
    why: str


class Ledger:
    """Hands out slot ids and remembers what ties and freezes them."""

    def __init__(self) -> None:
        self.size = 0
        self.ties: list[Tie] = []
        self.freezes: list[Freeze] = []

    def fresh(self, count: int) -> Ids:
        """New ids that nothing is tied to yet."""
        self.size += count
        return np.arange(self.size - count, self.size, dtype=np.int64)

    def tie(self, left: Ids, right: Ids, why: str) -> None:
        """Declares two equally shaped id arrays equal, element by element."""
        if left is not right:
            self.ties.append(Tie(left.ravel(), right.ravel(), why))

    def freeze(self, ids: Ids, why: str) -> None:
        """Forbids the removal of these slots."""
        self.freezes.append(Freeze(ids.ravel(), why))

    def roots(self) -> Ids:
        """The smallest slot that each slot is tied to, directly or through others."""
        parent = np.arange(self.size, dtype=np.int64)
        if not self.ties:
            return parent
        left = np.concatenate([tie.left for tie in self.ties])
        right = np.concatenate([tie.right for tie in self.ties])
        while True:
            one, other = parent[left], parent[right]
            open_ = one != other
            if not open_.any():
                return parent
            left, right, one, other = left[open_], right[open_], one[open_], other[open_]
            np.minimum.at(parent, np.maximum(one, other), np.minimum(one, other))
            parent = _flattened(parent)

    def frozen(self, roots: Ids) -> npt.NDArray[np.bool_]:
        """Returns the mask of the roots that may not be removed."""
        marked = np.zeros(self.size, dtype=np.bool_)
        for freeze in self.freezes:
            marked[roots[freeze.ids]] = True
        return marked


def _flattened(parent: Ids) -> Ids:
    """Points every slot straight at its root."""
    while True:
        above = parent[parent]
        if np.array_equal(above, parent):
            return parent
        parent = above
