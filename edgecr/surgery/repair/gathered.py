"""Sums of all that chunks of a sample say of a layer and of a norm: the chunks themselves are forgotten."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from edgecr.surgery.repair.least_squares import Regression

_BLOCK = 1 << 18
"""Values whose distances from their mean are taken at once: they lie in a processor's cache."""


class Gathered:
    """The knowledge of one layer so far: a regression for each group of its outputs, and the size of its answers."""

    def __init__(self, groups: int, *, shift: bool) -> None:
        self.groups = [Regression(shift=shift) for _ in range(groups)]
        self.inputs = 0
        """Inputs of one output."""
        self._rows = 0
        self._total = self._squares = torch.zeros((), dtype=torch.float64)

    def add(self, rows: Tensor, wanted: Tensor, weight: Tensor, bias: Tensor) -> None:
        """Takes some rows of inputs, and the answers that are wanted there; the layer gives those of its weight."""
        matrix = weight.detach().float().cpu().flatten(1)
        high, wide = len(matrix) // len(self.groups), weight.shape[1]
        self.inputs = matrix.shape[1]
        for number, regression in enumerate(self.groups):
            out = slice(number * high, (number + 1) * high)
            own = rows[:, number * wide : (number + 1) * wide].flatten(1)
            regression.add(own, wanted[:, out] - own @ matrix[out].T - bias[out])
        self._rows += len(wanted)
        self._total = self._total + wanted.sum(0, dtype=torch.float64)
        self._squares = self._squares + wanted.double().square().sum()

    @property
    def before(self) -> float:
        """The squared error of the layer as it is."""
        return sum(one.before for one in self.groups)

    @property
    def squares(self) -> float:
        """The squares of the wanted answers."""
        return float(self._squares)

    @property
    def variance(self) -> float:
        """Their squared distances from their means."""
        return max(self.squares - float((self._total.square() / self._rows).sum()), 1e-30)

    @property
    def too_large(self) -> bool:
        """True where there are too many inputs to solve for."""
        return any(one.too_large for one in self.groups)


@dataclass
class Spread:
    """Mean and variance of each channel over chunks, in double precision."""

    count: int = 0
    mean: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    squares: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    """Squared distances from the mean."""

    def add(self, values: Tensor) -> None:
        """Takes a chunk of shape (images, channels, ...)."""
        dims, each = [0, *range(2, values.dim())], [1, -1] + [1] * (values.dim() - 2)
        count = values.numel() // max(values.shape[1], 1)
        mean = values.sum(dims) / count
        some = max(1, len(values) * _BLOCK // max(values.numel(), 1))
        parts = ((part - mean.view(each)).square_().sum(dims) for part in torch.split(values, some))
        squares = torch.stack([part.double().cpu() for part in parts]).sum(0)
        whole, apart = self.count + count, mean.double().cpu() - self.mean
        self.squares = self.squares + squares + apart.square() * (self.count * count / whole)
        self.mean = self.mean + apart * (count / whole)
        self.count = whole

    @property
    def variance(self) -> Tensor:
        """The variance of the population that the values are a sample of."""
        return self.squares / (self.count - 1)
