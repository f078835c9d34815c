"""Ridge regression that pulls towards the weight as it is: nothing moves where there is nothing to repair."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

LARGEST = 9_000
"""Rows of the largest matrix that is factored: its doubles take 650 MB."""
BLOCK = 1_024
"""Rows that are gathered before their products are summed, in single precision; the sums are doubles."""
_STRIPS = 8
"""Strips of a symmetric matrix, of which one triangle is computed."""


@dataclass(frozen=True)
class Fit:
    """The change of a weight that makes up for a residual, and the squared errors on the sample around it."""

    change: Tensor
    """Shape (inputs, outputs)."""
    shift: Tensor
    """Constant that is added to each output; zeros where no shift was allowed."""
    before: float
    after: float


class Regression:
    """A ridge regression of residuals on inputs, whose rows come in parts and are forgotten once they are summed.

    Its size follows the inputs and outputs, never the rows: of rows that are fewer than the inputs the matrix of their
    products is the smaller one, and they are kept.
    """

    def __init__(self, *, shift: bool) -> None:
        self._shift = shift
        self._inputs: list[Tensor] = []
        self._residuals: list[Tensor] = []
        self._waiting = 0
        self._around: tuple[Tensor, Tensor] | None = None
        self._sums: _Sums | None = None
        self._before = torch.zeros(())
        self.rows = 0

    def add(self, inputs: Tensor, residuals: Tensor) -> None:
        """Takes some rows of both."""
        self.rows, self._waiting = self.rows + len(inputs), self._waiting + len(inputs)
        self._before = self._before + residuals.double().square().sum(0)
        if self._around is None:  # sums of squares around the mean, or near it, lose fewer digits
            self._around = _mean(inputs, self._shift), _mean(residuals, self._shift)
        if self.too_large:
            self._inputs, self._residuals, self._sums = [], [], None
            return
        self._inputs.append(inputs - self._around[0])
        self._residuals.append(residuals - self._around[1])
        if self._waiting > max(BLOCK, inputs.shape[1]) and inputs.shape[1] <= LARGEST:
            self._sum()

    @property
    def before(self) -> float:
        """The squared residuals."""
        return float(self._before.sum())

    @property
    def too_large(self) -> bool:
        """True where neither the inputs' matrix nor the rows' one is small enough to be factored."""
        return self._around is not None and min(self.rows, len(self._around[0])) > LARGEST

    def _sum(self) -> None:
        inputs, residuals = torch.cat(self._inputs), torch.cat(self._residuals)
        self._inputs, self._residuals, self._waiting = [], [], 0
        if self._sums is None:
            self._sums = _Sums.of(inputs.shape[1], residuals.shape[1])
        self._sums.add(inputs, residuals)

    def gather(self) -> None:
        """Sums the rows that wait, unless their own matrix is the smaller one; parts need not do so again."""
        if self._inputs and (self._sums is not None or len(self._inputs[0][0]) <= self.rows):
            self._sum()

    def part(self, inputs: Tensor, outputs: Tensor) -> Regression:
        """The regression of some outputs on some inputs, both in rising order."""
        assert self._around is not None
        found = Regression(shift=self._shift)
        found.rows, found._waiting, found._before = self.rows, self._waiting, self._before[outputs]
        found._around = self._around[0][inputs], self._around[1][outputs]
        found._inputs = [part[:, inputs] for part in self._inputs]
        found._residuals = [part[:, outputs] for part in self._residuals]
        found._sums = self._sums.part(inputs, outputs) if self._sums is not None else None
        return found

    def fit(self, ridge: float) -> Fit:
        """Minimises ``|R - X D - s|^2 + ridge * t * |D|^2``, where t is the mean square of a centred input.

        With ``shift`` a constant s is free for each output. The error on these rows never exceeds that of D = 0.
        """
        assert self._around is not None
        self.gather()
        change, shift, after = self._by_rows(ridge) if self._sums is None else self._by_inputs(self._sums, ridge)
        if not self._shift:
            return Fit(change, torch.zeros(change.shape[1]), self.before, after)
        left, right = self._around
        shift = shift + right.double() - left.double() @ change.double()
        return Fit(change, shift.to(change.dtype), self.before, after)

    def _by_inputs(self, sums: _Sums, ridge: float) -> tuple[Tensor, Tensor, float]:
        """Factors the matrix of the inputs' second moments."""
        gram, cross, total = sums.centred(self.rows) if self._shift else sums.around_zero()
        change, after = torch.zeros_like(cross), total
        if gram.diagonal().any():  # or else no inputs, or all of them constant: only the shift can help
            change, load = _solved(gram, cross, ridge, float(gram.diagonal().mean()))
            after = total - float((change * cross).sum()) - load * float(change.square().sum())
        shift = (sums.right - sums.left @ change) / self.rows
        return change.float(), shift, max(after, 0.0)

    def _by_rows(self, ridge: float) -> tuple[Tensor, Tensor, float]:
        """The same solution by the matrix of the rows' products, which is the smaller one for wide layers."""
        inputs, wanted = torch.cat(self._inputs), torch.cat(self._residuals).double()
        left, right = (part.mean(0, dtype=torch.float64) for part in (inputs, wanted))
        if self._shift:
            inputs, wanted = inputs - left.float(), wanted - right
        gram = (inputs @ inputs.T).double()
        change = torch.zeros(inputs.shape[1], wanted.shape[1])
        if gram.diagonal().any():
            load = float(gram.diagonal().sum()) / inputs.shape[1]
            change = inputs.T @ solved(gram, wanted, ridge, load).float()
        missed = wanted - (inputs @ change).double()
        return change, right - left @ change.double(), float(missed.square().sum())


@dataclass
class _Sums:
    """Sums over rows in double precision."""

    gram: Tensor
    """Products of inputs; the upper triangle is left out, but for some of it."""
    cross: Tensor
    """Products of inputs and residuals."""
    left: Tensor
    right: Tensor
    """Inputs and residuals themselves."""
    squares: Tensor
    """The squares of each residual."""

    @classmethod
    def of(cls, inputs: int, outputs: int) -> _Sums:
        """Nothing yet."""
        shapes = (inputs, inputs), (inputs, outputs), (inputs,), (outputs,), (outputs,)
        return cls(*(torch.zeros(shape, dtype=torch.float64) for shape in shapes))

    def add(self, inputs: Tensor, residuals: Tensor) -> None:
        """Adds some rows."""
        wide = inputs.shape[1]
        strip = max(BLOCK // _STRIPS, -(-wide // _STRIPS))
        for start in range(0, wide, strip):
            stop = min(wide, start + strip)
            self.gram[start:, start:stop] += inputs[:, start:].T @ inputs[:, start:stop]
        self.cross += inputs.T @ residuals
        self.left += inputs.sum(0, dtype=torch.float64)
        self.right += residuals.sum(0, dtype=torch.float64)
        self.squares += residuals.double().square().sum(0)

    def part(self, inputs: Tensor, outputs: Tensor) -> _Sums:
        """The sums of some inputs and outputs."""
        gram, cross = self.gram[inputs][:, inputs], self.cross[inputs][:, outputs]
        return _Sums(gram, cross, self.left[inputs], self.right[outputs], self.squares[outputs])

    def around_zero(self) -> tuple[Tensor, Tensor, float]:
        """The products of inputs, of inputs and residuals, and the squares, as they are."""
        return self.gram, self.cross, float(self.squares.sum())

    def centred(self, rows: int) -> tuple[Tensor, Tensor, float]:
        """The same around the means."""
        gram = torch.addr(self.gram, self.left, self.left, alpha=-1 / rows)
        cross = torch.addr(self.cross, self.left, self.right, alpha=-1 / rows)
        return gram, cross, float((self.squares - self.right.square() / rows).sum())


def _mean(values: Tensor, wanted: bool) -> Tensor:
    mean = values.mean(0, dtype=torch.float64).to(values.dtype)
    return mean if wanted else torch.zeros_like(mean)


def solved(gram: Tensor, wanted: Tensor, ridge: float, unit: float) -> Tensor:
    """Solves by Cholesky; the load grows where rounding leaves no positive matrix (constant or copied inputs).

    Only the lower triangle of ``gram`` is looked at.
    """
    return _solved(gram, wanted, ridge, unit)[0]


def _solved(gram: Tensor, wanted: Tensor, ridge: float, unit: float) -> tuple[Tensor, float]:
    """The solution, and what had to be added to the diagonal."""
    if not math.isfinite(unit):
        raise FloatingPointError("the inputs are not finite numbers")
    unit, loaded = max(unit, torch.finfo(torch.float32).tiny), gram.clone()
    while True:
        loaded.diagonal().copy_(gram.diagonal() + ridge * unit)
        factor, failed = torch.linalg.cholesky_ex(loaded)
        if not failed:
            return torch.cholesky_solve(wanted, factor), ridge * unit
        ridge = max(10 * ridge, 1e-9)
