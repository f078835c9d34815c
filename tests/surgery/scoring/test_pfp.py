"""PFP's sensitivities: shares of outputs, so between 0 and 1 and blind to scale and order."""

from __future__ import annotations

import itertools
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgecr.core.errors import RequestError, UnsupportedModel
from edgecr.models import architecture, build
from edgecr.surgery.scoring.pfp import (
    Reader,
    group_sensitivity,
    pfp_allocation,
    pfp_keep,
    read_sensitivities,
    sample_size,
    shares,
)
from edgecr.surgery.scoring.scores import ScoringInputs, scores
from edgecr.surgery.tracing.graph import trace_channels


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
    evidence = ScoringInputs(module, batches=[(images, torch.zeros(3, dtype=torch.long))])
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


def test_the_allocation_falls_from_everything_to_one_channel_each() -> None:
    readers = [reader(32, seed=1), reader(64, 0.2, seed=2), reader(128, seed=3)]
    kept = [pfp_allocation(readers)(level) for level in np.linspace(0, 1, 200)]
    assert (kept[0].tolist(), kept[-1].tolist()) == ([32, 64, 128], [1, 1, 1])
    assert all((after <= before).all() for before, after in itertools.pairwise(kept))


def test_layers_with_one_error_in_common_keep_more_where_more_is_at_stake() -> None:
    readers = [reader(64, 0.01), reader(64, 1.0)]
    kept = [pfp_allocation(readers)(level) for level in np.linspace(0, 1, 400)]
    assert all(less <= more for less, more in kept)
    assert any(less < more for less, more in kept)


def test_resnet20_needs_183_images() -> None:
    """The golden number of Liebenwein et al.: 200,714 outputs in all, 16,384 in the largest layer."""
    outputs = [16384] * 7 + [8192] * 7 + [4096] * 7 + [10]
    assert sum(outputs) == 200_714
    assert sample_size(outputs) == 183


def looked_at(count: int, most: int | None = None) -> tuple[int, list[str]]:
    """Returns the number of images, out of so many, that resnet20 runs on, and the messages told."""
    module, told, known = build(architecture({"arch": "resnet20"}), 10), list[str](), list[int]()
    images = (torch.randn(4, 3, 32, 32) for _ in range(count // 4))
    with patch("edgecr.surgery.scoring.pfp.answers", lambda *_: known.append(len(told))):
        read_sensitivities(module, images, most, told.append)
    assert all(known), "the cost is told before the first look"
    return len(known), told


@pytest.mark.parametrize(("there", "most", "taken"), [(256, None, 183), (256, 100, 100), (40, None, 40)])
def test_the_sample_has_the_size_of_the_bound_and_its_cost_is_told_first(
    there: int, most: int | None, taken: int
) -> None:
    found, told = looked_at(there, most)
    assert found == taken
    asked = most or 183
    assert f"looks at {asked} training images" in told[0]
    assert ("its bound asks for 183" in told[0]) == (most is not None)
    assert f"about {asked * 12 * 40_551_040 / 1e9:.3g} billion operations" in told[0]


def test_channels_that_nobody_looked_into_are_refused_by_name() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1))
    (group,) = trace_channels(module, (3, 4, 4)).groups
    with pytest.raises(RequestError, match=r"read 0 \(1\)"):
        group_sensitivity(group, {})
