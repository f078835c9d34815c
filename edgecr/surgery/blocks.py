"""Blocks of weights with a fixed number of zeros, such as two in every four inputs (2:4)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from edgecr.core.errors import UnknownName
from edgecr.surgery.promise import Figure, Weights, figures


class Blocks(Figure):
    """Blocks of neighbouring inputs of which at most so many weights are not zero."""

    kept: ClassVar[int]
    size: ClassVar[int]

    @classmethod
    def fits(cls, shape: tuple[int, ...]) -> bool:
        """True for weights of this shape (out, in, …) if their inputs fall into whole blocks."""
        return len(shape) > 1 and shape[1] > 0 and shape[1] % cls.size == 0

    def count(self, weights: Weights) -> int:
        """The blocks with zeros enough; none where the inputs do not fall into whole blocks."""
        if not self.fits(weights.shape):
            return 0
        rows = np.moveaxis(weights, 1, -1).reshape(-1, self.size)
        return int(np.count_nonzero(np.count_nonzero(rows, axis=1) <= self.kept))

    @classmethod
    def of(cls, pattern: str) -> type[Blocks]:
        """The kind of blocks that a pattern such as ``2:4`` speaks of."""
        if pattern not in patterns:
            raise UnknownName("pattern of blocks", pattern, patterns)
        return patterns[pattern]

    @classmethod
    def figure(cls) -> str:
        """The name under which the amount is promised."""
        return f"{cls.kept}:{cls.size} blocks"


@figures.register("2:4 blocks")
class TwoInFour(Blocks):
    """Blocks of four with at most two weights, which processors from Ampere on may skip."""

    words: ClassVar[str] = "2:4 blocks"
    kept: ClassVar[int] = 2
    size: ClassVar[int] = 4


@figures.register("1:4 blocks")
class OneInFour(Blocks):
    """Blocks of four with at most one weight."""

    words: ClassVar[str] = "1:4 blocks"
    kept: ClassVar[int] = 1
    size: ClassVar[int] = 4


patterns: dict[str, type[Blocks]] = {f"{kind.kept}:{kind.size}": kind for kind in (TwoInFour, OneInFour)}
"""The known kinds of blocks by what people call them."""
