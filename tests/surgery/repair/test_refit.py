"""A repair on small networks, where what is right is known."""

from __future__ import annotations

import copy
import threading
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgecr.core.errors import UnsupportedModel
from edgecr.surgery.repair.refit import Sample, repair
from tests.surgery.conftest import disturbed
from tests.surgery.repair.cutting import Cut, error, images, repaired, without

SHAPE = (3, 8, 8)
TINY = 1e-8


def chain(width: int = 8, bias: bool = True) -> nn.Sequential:
    """Convolution, norm, convolution, norm, classifier."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, width, 3, bias=bias), nn.BatchNorm2d(width), nn.ReLU()]
    layers += [nn.Conv2d(width, 6, 3, bias=bias), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    module = nn.Sequential(*layers, nn.Linear(6, 4))
    disturbed(module)
    return module


def stem(gone: str, layer: str = "0", norm: str = "1", reader: str = "3", bias: bool = True) -> list[Any]:
    """All that goes with channels of the first layer of a chain."""
    named = [f"{norm}.{name}" for name in ("weight", "bias", "running_mean", "running_var")] if norm else []
    named += [f"{layer}.bias"] if bias else []
    return [(name, 0, gone, "out") for name in [f"{layer}.weight", *named]] + [(f"{reader}.weight", 1, gone, "in")]


def halved(width: int = 8, bias: bool = True) -> Cut:
    return without(chain(width, bias), *stem(f"0-{width // 2 - 1}", bias=bias))


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_where_nothing_was_removed_every_tensor_stays_to_the_bit() -> None:
    made = without(chain())
    slim, done = repaired(made, SHAPE)
    assert same(state(slim), state(made.dense))
    assert done.layers == ()


def test_layers_in_front_of_the_cut_stay_to_the_bit() -> None:
    slim, done = repaired(made := halved(), SHAPE)
    before, after = state(made.slim), state(slim)
    assert [one.layer for one in done.layers] == ["3", "8"]
    assert all(torch.equal(before[name], after[name]) for name in before if name[0] in "01")
    assert not torch.equal(before["3.weight"], after["3.weight"])


@pytest.mark.parametrize("bias", [True, False])
def test_a_copied_channel_is_not_missed(bias: bool) -> None:
    module = chain(bias=bias)
    for name, tensor in module.state_dict().items():
        if name[0] in "01" and tensor.dim():
            tensor[5] = tensor[2]
    made = without(module, *stem("5", bias=bias))
    slim, done = repaired(made, SHAPE, ridge=TINY)
    others = images(SHAPE, seed=9)
    assert error(made.dense, made.slim, others) > 1e-2
    assert error(made.dense, slim, others) < 1e-10
    assert done.layers[0].before > 1e-2
    assert done.layers[0].after < 1e-6


def test_channels_in_the_span_of_the_others_are_not_missed() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3), nn.Flatten(), nn.Linear(6 * 16, 4))
    with torch.no_grad():
        module[0].weight[4:] = torch.einsum("ab,bcde->acde", torch.randn(4, 4), module[0].weight[:4])
    made = without(module, *stem("4-7", norm="", reader="1"))
    slim, _ = repaired(made, SHAPE, ridge=TINY)
    others = images(SHAPE, seed=9)
    assert error(made.dense, made.slim, others) > 1e-2
    assert error(made.dense, slim, others) < 1e-8  # the removed biases, too


@pytest.mark.parametrize("positions", [1, 4, 1000])
@pytest.mark.parametrize("ridge", [TINY, 0.1, 10.0])
def test_no_layer_errs_more_on_the_sample_than_without_a_refit(ridge: float, positions: int) -> None:
    _, done = repaired(halved(), SHAPE, ridge=ridge, positions=positions)
    assert done.layers
    assert all(0 <= one.after <= one.before for one in done.layers)


@pytest.mark.parametrize("bias", [True, False])
def test_the_model_errs_less_on_images_that_it_has_not_seen(bias: bool) -> None:
    made = halved(bias=bias)
    slim, done = repaired(made, SHAPE, images=images(SHAPE, 96))
    others = images(SHAPE, 96, seed=9)
    assert error(made.dense, slim, others) < 0.5 * error(made.dense, made.slim, others)
    assert done.layers[0].after < 0.7 * done.layers[0].before


def test_the_same_seed_gives_the_same_bits_and_another_other_ones() -> None:
    made = halved()
    one, two, three = (state(repaired(made, SHAPE, positions=5, seed=seed)[0]) for seed in (1, 1, 2))
    assert same(one, two)
    assert not same(one, three)


def test_chunks_matter_by_rounding_alone_where_all_positions_are_looked_at() -> None:
    made = halved()
    one, other = (state(repaired(made, SHAPE, images=images(SHAPE, 48, chunk))[0]) for chunk in (48, 10))
    assert all(torch.allclose(one[name], other[name], rtol=1e-3, atol=1e-4) for name in one)
    fewer = (state(repaired(made, SHAPE, images=images(SHAPE, 48, chunk), positions=4)[0]) for chunk in (48, 10))
    assert not torch.allclose(*(each["3.weight"] for each in fewer), rtol=1e-3, atol=1e-4)


def test_the_order_of_equal_chunks_does_not_matter_beyond_rounding() -> None:
    made, parts = halved(), images(SHAPE)
    one, other = (state(repaired(made, SHAPE, images=each)[0]) for each in (parts, parts[::-1]))
    assert all(torch.allclose(one[name], other[name], rtol=1e-3, atol=1e-4) for name in one)


# Batch norms.


def moments(module: nn.Sequential, layer: int, parts: list[Tensor]) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        read = module[:layer](torch.cat(parts)).double().transpose(0, 1).flatten(1)
    return read.mean(1).float(), read.var(1).float()


def test_norms_behind_a_refitted_layer_have_the_statistics_of_the_sample() -> None:
    made, parts = halved(), images(SHAPE)
    slim, _ = repaired(made, SHAPE)
    assert isinstance(slim, nn.Sequential)
    mean, var = moments(slim, 4, parts)
    assert torch.allclose(slim[4].running_mean, mean, atol=1e-4)
    assert torch.allclose(slim[4].running_var, var, rtol=1e-4)
    assert not torch.allclose(made.slim[4].running_var, var, rtol=1e-2)  # type: ignore[index]


def test_taking_statistics_leaves_the_function_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    made = halved()
    slim, _ = repaired(made, SHAPE)
    monkeypatch.setattr("edgecr.surgery.repair.refit._Work.take_statistics", lambda *_: None)
    kept, _ = repaired(made, SHAPE)
    assert not torch.equal(slim.state_dict()["4.weight"], kept.state_dict()["4.weight"])
    assert error(kept, slim, images(SHAPE, seed=9)) < 1e-9


def test_a_dead_channel_of_a_norm_stays_dead() -> None:
    made = halved()
    made.slim[3].weight.data[1], made.slim[3].bias.data[1] = 0, 0  # type: ignore[index]
    made.dense[3].weight.data[1], made.dense[3].bias.data[1] = 0, 0  # type: ignore[index]
    slim, _ = repaired(made, SHAPE)
    assert float(slim[4].running_var[1]) < 1e-9  # type: ignore[index]
    assert all(torch.isfinite(tensor).all() for tensor in slim.state_dict().values())
    assert error(made.dense, slim, images(SHAPE, seed=9)) < error(made.dense, made.slim, images(SHAPE, seed=9))


@pytest.mark.parametrize("bias", [True, False])
def test_the_constant_of_removed_channels_goes_into_the_bias_or_the_norm(bias: bool) -> None:
    module = chain(bias=bias)
    with torch.no_grad():
        module[1].bias += 5  # far above zero: what goes is mostly a constant
    made = without(module, *stem("0-3", bias=bias))
    slim, _ = repaired(made, SHAPE, ridge=10.0)  # next to nothing but the constant is taken
    others = images(SHAPE, seed=9)
    assert error(made.dense, slim, others) < 0.1 * error(made.dense, made.slim, others)


def test_a_layer_without_bias_or_norm_gets_no_constant_and_errs_less_nevertheless() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3, bias=False), nn.ReLU(), nn.Flatten())
    made = without(module, *stem("0-3", norm="", reader="2"))
    slim, done = repaired(made, SHAPE)
    assert done.layers[0].after < done.layers[0].before
    assert slim.state_dict().keys() == made.slim.state_dict().keys()


# Branches.


class Block(nn.Module):
    """A stem, whose channels can be copies, and a branch around which they are added, before or after it runs."""

    def __init__(self, added_first: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.wide, self.stem, self.added_first = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 6, 1), added_first
        self.conv1, self.bn1 = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.conv2, self.bn2 = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(F.relu(self.wide(x)))
        if self.added_first:
            shortcut = F.pad(x[:, :4], (0, 0, 0, 0, 1, 1))
            return shortcut + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return y + F.pad(x[:, :4], (0, 0, 0, 0, 1, 1))


@pytest.mark.parametrize("added_first", [True, False])
def test_the_last_layer_of_a_branch_makes_up_for_its_shortcut(
    added_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = Block(added_first)
    disturbed(module)
    made = without(module, *stem("0-3", "wide", "", "stem"))
    parts = images(SHAPE)
    slim, _ = repaired(made, SHAPE)
    monkeypatch.setattr("edgecr.surgery.repair.refit._Work._with_shortcut", lambda self, use, want, *_: want)
    alone, _ = repaired(made, SHAPE)
    assert error(made.dense, slim, parts) < 0.9 * error(made.dense, alone, parts)
    assert error(made.dense, alone, parts) < error(made.dense, made.slim, parts)


def test_the_value_that_is_added_is_the_one_that_the_branch_meets() -> None:
    class Split(nn.Module):
        """The second half is added: not the first result of the split."""

        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.wide, self.stem, self.conv = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            one, two = self.stem(F.relu(self.wide(x))).chunk(2, 1)
            return self.conv(one * 3) + two

    made = without(Split(), *stem("0-3", "wide", "", "stem"))
    slim, _ = repaired(made, SHAPE)
    parts = images(SHAPE)
    assert error(made.dense, slim, parts) < 0.6 * error(made.dense, made.slim, parts)


# Masks.


def test_entries_that_a_mask_forbids_stay_zero() -> None:
    made = halved()
    generator = torch.Generator().manual_seed(0)
    weight = made.slim[3].weight  # type: ignore[index]
    free = torch.rand(weight.shape, generator=generator) < 0.5
    free[2] = False  # an output that may use nothing
    with torch.no_grad():
        weight.mul_(free)
    slim, done = repaired(made, SHAPE, {"3.weight": free})
    assert not slim[3].weight[~free].any()  # type: ignore[index]
    assert not torch.equal(slim[3].weight, weight)  # type: ignore[index]
    assert done.layers[0].after < done.layers[0].before
    parts = images(SHAPE)
    assert error(made.dense, slim, parts) < error(made.dense, made.slim, parts)


def test_a_mask_that_forbids_nothing_changes_nothing_but_rounding() -> None:
    made = halved()
    free = torch.ones_like(made.slim[3].weight)  # type: ignore[index]
    one, other = (state(repaired(made, SHAPE, masks)[0]) for masks in (None, {"3.weight": free}))
    assert all(torch.allclose(one[name], other[name], atol=1e-5) for name in one)


# Failures.


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_images_that_are_no_numbers_are_refused_and_nothing_has_changed(bad: float) -> None:
    made, parts = halved(), images(SHAPE)
    parts[1][0, 0, 0, 0] = bad
    slim, before = copy.deepcopy(made.slim), state(made.slim)
    with pytest.raises(UnsupportedModel, match=r"^\d reads or answers values that are not finite.*look for NaN"):
        repair(made.dense, slim, made.cuts, Sample(parts))
    assert same(state(slim), before)


class Moody(nn.Sequential):
    """Says no to some images."""

    says: Any = None

    def forward(self, x: Tensor) -> Tensor:
        strange = float(x.max()) > 1e3
        for number, layer in enumerate(self):
            x = layer(self.says(x) if number == 5 and self.says and strange else x)
        return x


def moody(says: Any) -> Cut:
    made = without(Moody(*chain()), *stem("0-3"))
    made.slim.says = says
    return made


def test_an_error_of_the_model_is_told_once_and_leaves_no_thread_and_no_change() -> None:
    def refuses(x: Tensor) -> Tensor:
        raise ValueError("I am tired")

    made, parts = moody(refuses), images(SHAPE, chunk=12)
    parts[2][0] = 1e5
    before, threads, training = state(made.slim), threading.active_count(), made.slim.training
    with pytest.raises(UnsupportedModel) as refused:
        repair(made.dense, made.slim, made.cuts, Sample(parts))
    assert str(refused.value).count("I am tired") == 1
    assert str(refused.value).count("fails on images") == 1
    assert threading.active_count() == threads
    assert same(state(made.slim), before)
    assert made.slim.training == training


def test_a_model_that_takes_other_layers_for_other_images_is_refused() -> None:
    made, parts = moody(lambda x: x), images(SHAPE, chunk=12)
    norm = made.slim[4]  # type: ignore[index]
    made.slim.says = lambda x: norm(x)
    parts[2][0] = 1e5
    before = state(made.slim)
    with pytest.raises(UnsupportedModel, match="leave the repair out"):
        repair(made.dense, made.slim, made.cuts, Sample(parts))
    assert same(state(made.slim), before)


def test_an_error_of_the_work_itself_is_not_blamed_on_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgecr.surgery.repair.refit._Work._bias", lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        repaired(halved(), SHAPE)


def test_a_cut_that_is_not_the_modules_is_refused() -> None:
    made = halved()
    with pytest.raises(UnsupportedModel, match="not the layer that the cut left"):
        repaired(Cut(made.dense, made.slim, ()), SHAPE)


def test_images_that_the_model_changes_in_place_come_fresh_each_time() -> None:
    class Inplace(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.mul_(0.5))

    made, parts = without(Inplace(*chain()), *stem("0-3")), images(SHAPE)
    before = [part.clone() for part in parts]
    repaired(made, SHAPE, images=parts)
    assert all(map(torch.equal, parts, before))


def test_layers_too_wide_to_solve_for_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgecr.surgery.repair.least_squares.LARGEST", 20)
    _, done = repaired(halved(), SHAPE)
    assert [one.layer for one in done.layers] == ["8"]
    assert done.skipped == {"3": "36 inputs are too many to solve for"}


def test_modes_types_and_gradient_flags_stay() -> None:
    made = halved()
    for module in (made.dense, made.slim):
        module.double().to(memory_format=torch.channels_last)
    made.slim.train()
    made.slim[0].eval()  # type: ignore[index]
    made.slim[3].weight.requires_grad_(False)  # type: ignore[index]
    slim = copy.deepcopy(made.slim)
    repair(made.dense, slim, made.cuts, Sample([part.double() for part in images(SHAPE)]))
    assert [child.training for child in slim.modules()] == [child.training for child in made.slim.modules()]
    weight = slim[3].weight  # type: ignore[index]
    assert weight.dtype == torch.float64
    assert not weight.requires_grad
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not torch.equal(weight, made.slim[3].weight)  # type: ignore[index]
    assert all(parameter.grad is None for parameter in slim.parameters())


def test_a_branch_makes_up_for_its_shortcut_through_a_norm_of_another_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    module = Block(added_first=True)
    disturbed(module)
    module.bn2.weight.data *= 0.2
    made = without(module, *stem("0-3", "wide", "", "stem"))
    parts = images(SHAPE)
    slim, _ = repaired(made, SHAPE)
    monkeypatch.setattr("edgecr.surgery.repair.refit._Work._with_shortcut", lambda self, use, want, *_: want)
    alone, _ = repaired(made, SHAPE)
    assert error(made.dense, slim, parts) < 0.9 * error(made.dense, alone, parts)


def test_a_small_error_is_refitted_too() -> None:
    """A hundred-thousandth of a layer's answers is far above rounding."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.Flatten())
    with torch.no_grad():
        module[2].weight[:, :2] *= 1e-2
        module[2].bias.zero_()
    _, done = repaired(without(module, *stem("0-1", norm="", reader="2")), SHAPE)
    assert [one.layer for one in done.layers] == ["2"]
    assert 1e-8 < done.layers[0].before < 1e-3
    assert done.layers[0].after < 0.8 * done.layers[0].before
