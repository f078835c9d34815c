"""PFP's sensitivities: shares of outputs, so between 0 and 1 and blind to scale and order."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgecr.errors import BudgetError, UnsupportedModel
from edgecr.surgery.graph import trace_channels
from edgecr.surgery.scores import Evidence, scores
from edgecr.surgery.sensitivities import (
    Reader,
    group_sensitivity,
    pfp_allocation,
    pfp_keep,
    read_sensitivities,
    shares,
)


def by_hand(image: Tensor, conv: nn.Conv2d) -> np.ndarray:
    """The definition, weight by weight."""
    columns = nn.functional.unfold(image[None], conv.kernel_size, 1, conv.padding, conv.stride)[0].numpy()
    weight, result = conv.weight.detach().flatten(1).numpy(), np.zeros(len(columns))
    for half, sign, row, place in itertools.product((1, -1), (1, -1), weight, range(columns.shape[1])):
        a, w = np.maximum(half * columns[:, place], 0), np.maximum(sign * row, 0)
        if (a @ w) > 1.19e-7:
            result = np.maximum(result, a * w / (a @ w))
    return result.reshape(conv.in_channels, -1).max(1)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_is_looked_into_as_defined(stride: int) -> None:
    torch.manual_seed(0)
    conv, images = nn.Conv2d(4, 3, 3, stride, padding=1), torch.randn(2, 4, 5, 5)
    found = read_sensitivities(conv, [images])["weight"]
    expected = np.max([by_hand(image, conv) for image in images], axis=0)
    np.testing.assert_allclose(found.values, expected, rtol=1e-5)
    assert (found.values <= 1).all()
    assert (found.patches, found.kernel) == (25 if stride == 1 else 9, 9)


def test_shares_of_one_output_add_up_to_one_for_each_sign() -> None:
    torch.manual_seed(0)
    row, image = torch.randn(1, 20), torch.rand(20, 1)
    found = shares(image, row)
    for side in (row[0] > 0, row[0] < 0):
        assert float(found[side].sum()) == pytest.approx(1, rel=1e-6)


def test_scale_and_order_do_not_matter_and_dead_inputs_score_nothing() -> None:
    torch.manual_seed(0)
    rows, weight = torch.randn(12, 30), torch.randn(5, 12)
    rows[3] = 0
    found = shares(rows, weight)
    assert found[3] == 0
    torch.testing.assert_close(shares(rows * 7, weight), found)
    torch.testing.assert_close(shares(rows, weight * torch.rand(5, 1).add(0.1)), found)
    torch.testing.assert_close(shares(rows[:, torch.randperm(30)], weight), found, rtol=0, atol=0)


def test_groups_take_their_most_sensitive_reader() -> None:
    class TwoReaders(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.make, self.one, self.two = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 3), nn.Linear(4 * 25, 2)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = self.make(x).relu()
            return self.one(y), self.two(y.flatten(1))

    torch.manual_seed(0)
    module, images = TwoReaders(), torch.randn(3, 3, 5, 5)
    (group,) = trace_channels(module, (3, 5, 5)).groups
    found = read_sensitivities(module, [images])
    expected = np.maximum(found["one.weight"].values, found["two.weight"].values.reshape(4, 25).max(1))
    evidence = Evidence(module, batches=[(images, torch.zeros(3, dtype=torch.long))])
    np.testing.assert_array_equal(scores.get("pfp")(group, evidence), expected)
    whole = group_sensitivity(group, found)
    assert (whole.patches, whole.kernel) == (9, 9)


def test_grouped_convolutions_and_depthwise_ones() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 1, groups=2))
    found = read_sensitivities(module, [torch.randn(2, 3, 6, 6)])
    assert {name: len(reader.values) for name, reader in found.items()} == {"0.weight": 3, "2.weight": 4}


def test_transposed_convolutions_are_refused_by_name() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ConvTranspose2d(4, 2, 2))
    with pytest.raises(UnsupportedModel, match=r"1\.weight"):
        read_sensitivities(module, [torch.randn(1, 3, 4, 4)])


def reader(width: int, scale: float = 1.0, seed: int = 0) -> Reader:
    return Reader(np.random.default_rng(seed).random(width) * scale, 64, 9)


def test_a_smaller_error_keeps_more_channels() -> None:
    errors = np.logspace(-6, 8, 60)
    kept = [pfp_keep(reader(64), error) for error in errors]
    assert kept == sorted(kept, reverse=True)
    assert (kept[0], kept[-1]) == (64, 1)


def test_a_layer_with_more_sensitivity_keeps_more_channels() -> None:
    kept = [pfp_keep(reader(256, scale), 300.0) for scale in (0.01, 0.1, 1.0)]
    assert kept == sorted(kept)
    assert kept[0] < kept[-1]


def test_a_layer_that_nothing_depends_on_keeps_one_channel() -> None:
    assert pfp_keep(Reader(np.zeros(8), 64, 9), 1e-100) == 1


def test_one_channel_that_is_drawn_for_certain() -> None:
    assert pfp_keep(Reader(np.array([0.0, 1.0, 0.0]), 64, 9), 1e-3) == 1


@pytest.mark.parametrize("budget", [3, 50, 150, 224])
def test_the_allocation_meets_its_budget_and_leaves_no_room(budget: int) -> None:
    readers = [reader(32, seed=1), reader(64, 0.2, seed=2), reader(128, seed=3)]
    kept = pfp_allocation(readers, lambda counts: int(counts.sum()) <= budget)
    assert kept.sum() <= budget
    assert kept.sum() >= budget - len(readers)


def test_a_budget_below_one_channel_each_is_refused() -> None:
    with pytest.raises(BudgetError, match="cannot be met"):
        pfp_allocation([reader(8), reader(8)], lambda counts: int(counts.sum()) <= 1)
