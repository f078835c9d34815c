"""The promises of a surgery: what an exported file must show because of it, and how that is counted in weights.

Layers that are smaller or gone are promised by replaying the surgery on the architecture. What lies in the weights
that stay (zeros, later blocks of zeros or single bits) is promised as an amount of a ``Figure`` for each tensor.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from edgecr.core.errors import UnsupportedModel
from edgecr.core.registry import Registry

Weights = npt.NDArray[Any]
"""The weights of one layer, with axes as PyTorch orders them: (out, in, …)."""
ZEROS = "zeros"


class Figure(ABC):
    """Something countable in the weights of one layer, recounted from an exported file."""

    words: ClassVar[str]
    """Plural noun for reports."""

    @abstractmethod
    def count(self, weights: Weights) -> int:
        """The amount in these weights."""

    def left(self, amount: int, removed: int) -> int:
        """The least that is left once so many weights of the layer are gone; 0 where nothing is sure."""
        return 0


figures: Registry[type[Figure]] = Registry("promised figure")


@figures.register(ZEROS)
class Zeros(Figure):
    """Weights that are exactly zero."""

    words: ClassVar[str] = "zero weights"

    def count(self, weights: Weights) -> int:
        """The zeros among the weights."""
        return weights.size - int(np.count_nonzero(weights))

    def left(self, amount: int, removed: int) -> int:
        """All zeros but those that may have been among the removed weights."""
        return max(0, amount - removed)


Amounts = Mapping[str, int]
"""Amounts by the name of the tensor: ``layer1.0.conv1.weight``."""


@dataclass(frozen=True)
class Promise:
    """The promise of one change, or the sum of several."""

    channels: Amounts = field(default_factory=dict)
    """Output channels that are removed."""
    figures: Mapping[str, Amounts] = field(default_factory=dict)
    """The least amount of each figure, by the figure's name."""

    def __add__(self, other: Promise) -> Promise:
        """Both promises together."""
        names = dict.fromkeys([*self.figures, *other.figures])
        each = {name: _added(self.figures.get(name, {}), other.figures.get(name, {})) for name in names}
        return Promise(_added(self.channels, other.channels), each)

    def after(self, before: Amounts, now: Amounts) -> Promise:
        """The part of the promise that still holds after a change; the arguments are the tensors' sizes around it."""
        for name, amounts in self.figures.items():
            if unknown := sorted(amounts.keys() - before.keys()):
                raise UnsupportedModel(
                    f"A change promises {name} in {unknown[0]!r}, which is no parameter of the model."
                )
        each = {
            name: {
                tensor: amount if now[tensor] == before[tensor] else figure.left(amount, before[tensor] - now[tensor])
                for tensor, amount in amounts.items()
                if tensor in now
            }
            for name, amounts in self.figures.items()
            for figure in [figures.get(name)()]
        }
        return Promise(self.channels, each)

    def total(self, figure: str) -> int:
        """The amount of a figure in all tensors together."""
        return sum(self.figures.get(figure, {}).values())


def _added(one: Amounts, other: Amounts) -> dict[str, int]:
    return dict(Counter(one) + Counter(other))
