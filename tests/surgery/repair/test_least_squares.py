from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from edgecr.surgery.repair import least_squares
from edgecr.surgery.repair.least_squares import Fit, Regression


def regression(inputs: Sequence[Tensor], residuals: Sequence[Tensor], *, shift: bool) -> Regression:
    found = Regression(shift=shift)
    for pair in zip(inputs, residuals):
        found.add(*pair)
    return found


def fit(inputs: Sequence[Tensor], residuals: Sequence[Tensor], ridge: float, *, shift: bool) -> Fit:
    return regression(inputs, residuals, shift=shift).fit(ridge)


def problem(rows: int, inputs: int, outputs: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    read = torch.randn(rows, inputs, generator=generator) @ torch.randn(inputs, inputs, generator=generator) + 2
    return read, torch.randn(rows, outputs, generator=generator) * 3 + 1


def closed_form(read: Tensor, wanted: Tensor, ridge: float, *, shift: bool) -> tuple[Tensor, Tensor]:
    """The normal equations in double precision; the shift is an input of its own that the ridge leaves alone."""
    x, r = read.double(), wanted.double()
    centred = x - x.mean(0) if shift else x
    load = torch.full((x.shape[1],), ridge * float(centred.square().sum()) / x.shape[1], dtype=torch.float64)
    if shift:
        x = torch.cat([x, torch.ones(len(x), 1)], 1)
        load = torch.cat([load, torch.zeros(1)])
    found = torch.linalg.solve(x.T @ x + load.diag(), x.T @ r)
    return (found[:-1], found[-1]) if shift else (found, torch.zeros(r.shape[1]))


def squares(read: Tensor, wanted: Tensor, change: Tensor, shift: Tensor) -> float:
    return float((wanted.double() - read.double() @ change.double() - shift.double()).square().sum())


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("ridge", [1e-3, 0.1, 10.0])
@pytest.mark.parametrize(("rows", "inputs"), [(200, 20), (20, 20), (15, 40), (2, 3)])
def test_it_is_the_closed_form_however_rows_come_in_parts(rows: int, inputs: int, ridge: float, shift: bool) -> None:
    read, wanted = problem(rows, inputs)
    found = fit(read.split(7), wanted.split(7), ridge, shift=shift)
    change, constant = closed_form(read, wanted, ridge, shift=shift)
    assert torch.allclose(found.change.double(), change, rtol=1e-3, atol=2e-4 * float(change.abs().max()) + 1e-7)
    assert torch.allclose(found.shift.double(), constant.double(), rtol=1e-3, atol=1e-3)
    before, after = squares(read, wanted, change * 0, constant * 0), squares(read, wanted, found.change, found.shift)
    assert found.before == pytest.approx(before, rel=1e-5)
    assert found.after == pytest.approx(after, rel=1e-3, abs=1e-5 * before)
    assert found.after <= found.before


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize(("rows", "inputs"), [(200, 20), (20, 60)])
def test_rows_are_summed_on_the_way_to_the_same_solution(
    rows: int, inputs: int, shift: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, wanted = problem(rows, inputs)
    at_once = fit([read], [wanted], 0.05, shift=shift)
    monkeypatch.setattr(least_squares, "BLOCK", 16)
    parts = fit(read.split(9), wanted.split(9), 0.05, shift=shift)
    assert torch.allclose(at_once.change, parts.change, rtol=1e-3, atol=1e-4)
    assert torch.allclose(at_once.shift, parts.shift, rtol=1e-3, atol=1e-3)
    assert at_once.after == pytest.approx(parts.after, rel=1e-4)


def test_a_regression_holds_no_more_than_its_matrices_however_many_rows_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(least_squares, "BLOCK", 16)
    found = Regression(shift=True)
    held = []
    for seed in range(20):
        found.add(*problem(9, 20, seed=seed))
        held.append(sum(map(len, found._inputs)))
    assert max(held) <= 20
    assert found.rows == 180


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("rows", [100, 15])
def test_a_part_is_the_regression_of_these_inputs_and_outputs(rows: int, shift: bool) -> None:
    read, wanted = problem(rows, 20)
    columns, outputs = torch.arange(0, 20, 3), torch.tensor([1, 3])
    part = regression(read.split(9), wanted.split(9), shift=shift).part(columns, outputs).fit(0.1)
    alone = fit([read[:, columns]], [wanted[:, outputs]], 0.1, shift=shift)
    assert torch.allclose(part.change, alone.change, rtol=1e-3, atol=1e-4)
    assert torch.allclose(part.shift, alone.shift, rtol=1e-3, atol=1e-3)
    assert (part.before, part.after) == (pytest.approx(alone.before, rel=1e-5), pytest.approx(alone.after, rel=1e-3))


def test_the_stronger_the_ridge_the_smaller_the_change() -> None:
    read, wanted = problem(100, 10)
    found = [fit([read], [wanted], ridge, shift=False) for ridge in (1e-6, 0.1, 1.0, 1e6)]
    sizes = [float(one.change.norm()) for one in found]
    errors = [one.after for one in found]
    assert sizes == sorted(sizes, reverse=True)
    assert errors == sorted(errors)
    assert sizes[-1] < 1e-4 * sizes[0]
    assert errors[-1] == pytest.approx(found[-1].before, rel=1e-4)


def test_a_shift_takes_what_is_constant_without_any_ridge() -> None:
    read, _ = problem(100, 5)
    found = fit([read], [torch.full((100, 2), 3.0)], 1e6, shift=True)
    assert torch.allclose(found.shift, torch.tensor(3.0), atol=1e-4)
    assert float(found.change.abs().max()) < 1e-5
    assert found.after < 1e-6 * found.before


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize(("rows", "inputs"), [(50, 6), (8, 20)])
def test_copied_and_constant_inputs_are_no_obstacle(rows: int, inputs: int, shift: bool) -> None:
    read, _ = problem(rows, inputs)
    read[:, 3], read[:, 4] = read[:, 0], 5.0
    wanted = read[:, :2] @ torch.tensor([[1.0], [-2.0]])
    found = fit([read], [wanted], 1e-9, shift=shift)
    assert torch.isfinite(found.change).all()
    assert found.after < 1e-5 * found.before
    assert squares(read, wanted, found.change, found.shift) < 1e-5 * found.before


@pytest.mark.parametrize("value", [0.0, 4.0])
@pytest.mark.parametrize(("rows", "inputs"), [(50, 6), (4, 20), (50, 0)])
def test_inputs_that_tell_nothing_leave_the_shift_alone(rows: int, inputs: int, value: float) -> None:
    read, (_, wanted) = torch.full((rows, inputs), value), problem(rows, 1)
    found = fit([read], [wanted], 0.1, shift=True)
    assert found.change.shape == (inputs, 4)
    assert not found.change.any()
    assert torch.allclose(found.shift, wanted.mean(0), atol=1e-5)
    assert found.after == pytest.approx(squares(read, wanted, found.change, wanted.mean(0)), rel=1e-4)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize(("rows", "inputs"), [(50, 6), (4, 20)])
def test_inputs_that_are_no_numbers_are_refused(rows: int, inputs: int, bad: float) -> None:
    read, wanted = problem(rows, inputs)
    read[0, 0] = bad
    with pytest.raises(FloatingPointError, match="not finite"):
        fit([read], [wanted], 0.1, shift=True)


@pytest.mark.parametrize(("rows", "inputs", "large"), [(20, 200, False), (200, 20, False), (21, 21, True)])
def test_only_the_smaller_of_the_two_matrices_must_fit(
    rows: int, inputs: int, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(least_squares, "LARGEST", 20)
    read, wanted = problem(rows, inputs)
    assert regression(read.split(9), wanted.split(9), shift=True).too_large == large
