"""Ridge regression that pulls towards the weight as it is: nothing moves where there is nothing to repair."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LARGEST = 9_000
"""Rows of the largest matrix that is factored: its doubles take 650 MB."""


@dataclass(frozen=True)
class Fit:
    """The change of a weight that makes up for a residual, and the squared errors on the sample around it."""

    change: Tensor
    """Shape (inputs, outputs)."""
    shift: Tensor
    """Constant that is added to each output; zeros where no shift was allowed."""
    before: float
    after: float


def too_large(rows: int, inputs: int) -> bool:
    """True where neither the inputs' matrix nor the rows' one is small enough to be factored."""
    return min(rows, inputs) > LARGEST


def fit(inputs: Sequence[Tensor], residuals: Sequence[Tensor], ridge: float, *, shift: bool) -> Fit:
    """Minimises ``|R - X D - s|^2 + ridge * t * |D|^2``, where t is the mean square of a centred input.

    ``inputs`` X and ``residuals`` R come in parts of some rows each; with ``shift`` a constant s is free for each
    output. The error on these rows never exceeds that of D = 0.
    """
    rows = sum(len(part) for part in inputs)
    before = sum(float(part.double().square().sum()) for part in residuals)
    if shift:
        left = sum((part.sum(0, dtype=torch.float64) for part in inputs), torch.tensor(0.0)) / rows
        right = sum((part.sum(0, dtype=torch.float64) for part in residuals), torch.tensor(0.0)) / rows
        inputs = [part - left.to(part.dtype) for part in inputs]
        residuals = [part - right.to(part.dtype) for part in residuals]
    if any(bool(part.any()) for part in inputs):
        solve = _by_inputs if inputs[0].shape[1] <= rows else _by_rows
        change, after = solve(inputs, residuals, ridge)
    else:  # no inputs, or all of them constant: only the shift can help
        change = torch.zeros(inputs[0].shape[1], residuals[0].shape[1])
        after = sum(float(part.double().square().sum()) for part in residuals)
    if not shift:
        return Fit(change, torch.zeros(change.shape[1]), before, after)
    return Fit(change, (right - left @ change.double()).to(change.dtype), before, after)


def _by_inputs(inputs: Sequence[Tensor], residuals: Sequence[Tensor], ridge: float) -> tuple[Tensor, float]:
    """Factors the matrix of the inputs' second moments; sums of parts are kept in double precision."""
    gram = sum((_double(part.T @ part) for part in inputs), torch.tensor(0.0))
    cross = sum((_double(one.T @ other) for one, other in zip(inputs, residuals)), torch.tensor(0.0))
    total = sum(float(part.double().square().sum()) for part in residuals)
    change = solved(gram, cross, ridge, float(gram.diagonal().mean()))
    after = total - 2 * float((change * cross).sum()) + float((change * (gram @ change)).sum())
    return change.to(inputs[0].dtype), max(after, 0.0)


def _by_rows(inputs: Sequence[Tensor], residuals: Sequence[Tensor], ridge: float) -> tuple[Tensor, float]:
    """The same solution by the matrix of the rows' products, which is the smaller one for wide layers."""
    whole, wanted = torch.cat(list(inputs)), torch.cat(list(residuals)).double()
    gram = _double(whole @ whole.T)
    load = float(gram.diagonal().sum()) / whole.shape[1]
    change = whole.T @ solved(gram, wanted, ridge, load).to(whole.dtype)
    left = wanted - _double(whole @ change)
    return change, float(left.square().sum())


def _double(values: Tensor) -> Tensor:
    return values.double()


def solved(gram: Tensor, wanted: Tensor, ridge: float, unit: float) -> Tensor:
    """Solves by Cholesky; the load grows where rounding leaves no positive matrix (constant or copied inputs)."""
    if not math.isfinite(unit):
        raise FloatingPointError("the inputs are not finite numbers")
    unit = max(unit, torch.finfo(torch.float32).tiny)
    eye = torch.eye(len(gram), dtype=gram.dtype)
    while True:
        factor, failed = torch.linalg.cholesky_ex(gram + ridge * unit * eye)
        if not failed:
            return torch.cholesky_solve(wanted, factor)
        ridge = max(10 * ridge, 1e-9)
