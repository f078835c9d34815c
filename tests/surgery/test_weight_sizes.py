"""Sizes of weights: by hand, as papers print them, and as files hold them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

from edgecr.core.errors import RequestError
from edgecr.exporters.onnx.compact import compacted
from edgecr.models import architecture, build
from edgecr.surgery.counters import count
from edgecr.surgery.packing import GAPS, MASK, SCALES, SIGNS, TRITS, VALUES
from edgecr.surgery.weight_sizes import (
    BINARY_BITS,
    StoredBytes,
    bytes_without_places,
    count_weights,
    entropy_bounds,
    paper_bytes,
    prunable,
    stored_bytes,
)


def weights_of(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: parameter.detach().numpy() for name, parameter in module.named_parameters()}


def sparse(zeros: float, shape: tuple[int, ...] = (64, 32, 3, 3), seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.where(random.random(shape) < zeros, 0, random.standard_normal(shape)).astype(np.float32)


def signed(zeros: float) -> np.ndarray:
    scales = np.arange(1, 65, dtype=np.float32).reshape(-1, 1, 1, 1)
    return np.sign(sparse(zeros, seed=1)) * scales


# Counts.


class Small(nn.Module):
    """A convolution that runs twice on 4x4 maps, a norm, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Linear(3, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.conv(self.conv(x))).mean((2, 3)))


def test_papers_count_a_bit_for_a_binary_weight_that_is_left() -> None:
    weights = {"conv.weight": signed(0.75)[:1], "fc.weight": np.array([[1.5, 0, 2]], np.float32)}
    left = int(np.count_nonzero(weights["conv.weight"]))
    assert paper_bytes(weights) == 4 * left + 8
    assert paper_bytes(weights, ["conv.weight", "a tensor that was removed since"]) == left / 8 + 8


def test_counts_by_hand() -> None:
    module = Small()
    weights, layers = weights_of(module), count(module, (3, 4, 4)).layers
    weights = {name: np.ones_like(weight) for name, weight in weights.items()}
    weights["conv.weight"][0] = 0  # 27 of 81
    weights["head.weight"][:, 0] = 0  # 5 of 15
    weights["norm.bias"][:] = 0
    every, multiplied = (count_weights(weights, layers, one) for one in ("all", "prunable"))
    assert (every.parameters, every.nonzeros) == (81 + 3 + 6 + 15 + 5, 54 + 3 + 3 + 10 + 5)
    assert (multiplied.parameters, multiplied.nonzeros) == (81 + 15, 54 + 10)
    assert every.macs == multiplied.macs == 2 * 81 * 16 + 15
    assert every.sparse_macs == multiplied.sparse_macs == 2 * 54 * 16 + 10
    assert multiplied.prune_ratio() == pytest.approx(1 / 3)
    assert list(prunable(weights, layers)) == ["conv.weight", "head.weight"]


def test_a_smaller_model_is_held_against_the_whole_one() -> None:
    module = build(architecture({"arch": "resnet20", "width": 0.25}), 10)
    half = build(architecture({"arch": "resnet20", "width": 0.125}), 10)
    whole, small = (
        count_weights(weights_of(one), count(one, (3, 32, 32)).layers, "prunable") for one in (module, half)
    )
    assert small.prune_ratio() == whole.prune_ratio() == small.flop_ratio() == whole.flop_ratio() == 0
    assert small.prune_ratio(whole) == 1 - small.parameters / whole.parameters > 0.5
    assert small.flop_ratio(whole) == 1 - small.macs / whole.macs > 0.5


@pytest.fixture(scope="module")
def network() -> tuple[dict[str, np.ndarray], tuple]:
    module = build(architecture({"arch": "vgg16_bn_cifar", "width": 0.125}), 10)
    return weights_of(module), count(module, (3, 32, 32)).layers


@pytest.mark.parametrize(("layer", "late"), [("features.3.weight", False), ("features.40.weight", True)])
@pytest.mark.parametrize("counting", ["all", "prunable"])
def test_late_layers_hold_weights_and_early_ones_work(network, layer, late, counting) -> None:
    weights, layers = network
    cut = count_weights(weights | {layer: np.zeros_like(weights[layer])}, layers, counting)
    before = count_weights(weights, layers, counting)
    pruned, spared = (cut.prune_ratio() - before.prune_ratio(), cut.flop_ratio() - before.flop_ratio())
    assert (pruned > spared) == late
    assert min(pruned, spared) > 0


@pytest.mark.parametrize("zeros", [0, 0.01, 0.5, 0.999])
def test_ratios_are_shares(network, zeros) -> None:
    weights, layers = network
    masked = {
        name: weight * (np.random.default_rng(0).random(weight.shape) >= zeros) for name, weight in weights.items()
    }
    counted = count_weights(masked, layers, "prunable")
    assert 0 <= counted.prune_ratio() < 1
    assert 0 <= counted.flop_ratio() < 1
    assert counted.prune_ratio() == pytest.approx(zeros, abs=0.01)
    assert (counted.flop_ratio() == 0) == (zeros == 0)


def test_layers_of_another_model_are_refused_and_fixed_filters_count_whole(network) -> None:
    weights, _ = network
    layers = count(Small(), (3, 4, 4)).layers
    with pytest.raises(RequestError, match=r"No weight is given for the layer conv: give all parameters"):
        count_weights(weights, layers)
    unnamed = [type(layer)("", layer.kind, layer.weight_shape, 1, layer.out_positions, layer.macs) for layer in layers]
    assert count_weights({}, unnamed).sparse_macs == sum(layer.macs for layer in layers)


# Papers.


def test_memory_of_cards_as_printed() -> None:
    """Weights of convolutions and the linear layer alone; the deck is printed as six times the rounded card."""
    with torch.device("meta"):
        module = build(architecture({"arch": "wide_resnet18_2"}), 10)
    one = np.float32(1)
    weights = {name: np.broadcast_to(one, tuple(tensor.shape)) for name, tensor in module.named_parameters()}
    dense = count_weights(weights, count(module, (3, 32, 32)).layers, "prunable").nonzeros
    left = dense - round(0.95 * dense)
    card, binary = bytes_without_places(left) / 1e6, bytes_without_places(6 * left, BINARY_BITS) / 1e6
    assert f"{bytes_without_places(dense) / 1e6:.1f}" == "178.6"
    assert f"{card:.2f}" == "8.93"
    assert f"{6 * round(card, 2):.2f}" == "53.58"
    assert 6 * card == pytest.approx(53.58, abs=0.01)
    assert f"{binary:.3f}" == "1.674"
    assert f"{bytes_without_places(dense) / 1e6 / binary:.1f}" == "106.7"


# Files.


def test_stored_bytes_by_hand() -> None:
    values = np.array([[1, 0, 0, 2], [0, 0, 0, 3]], np.float32)
    # A byte of mask, three values and the zero that stands for all others; gaps 0, 2, 3 in two bytes.
    assert stored_bytes({"w": values}) == StoredBytes(dense=32, mask=17, gaps=14, signs=32, compact=32)
    signs = np.array([[1, -1, 0, 0], [0, 0, 3, 0]], np.float32)
    # A byte of mask, one of three signs, and two magnitudes.
    assert stored_bytes({"w": signs}) == StoredBytes(dense=32, mask=17, gaps=14, signs=10, compact=32)
    full = np.array([[1, -1], [2, 2]], np.float32)
    assert stored_bytes({"w": full}) == StoredBytes(dense=16, mask=16, gaps=16, signs=9, compact=16)
    both = stored_bytes({"one": values, "two": full, "vector": np.zeros(300, np.float32), "none": np.zeros((0, 2))})
    assert both == StoredBytes(dense=1248, mask=1233, gaps=1230, signs=1241, compact=1248)
    assert stored_bytes({}) == StoredBytes(0, 0, 0, 0, 0)


def test_negative_zeros_of_masks_are_zeros() -> None:
    weight = sparse(0)
    mask = sparse(0.9, seed=3) != 0
    assert stored_bytes({"w": -np.abs(weight) * mask}) == stored_bytes({"w": np.where(mask, weight, 0)})


def test_compact_bytes_are_those_of_the_file() -> None:
    arrays = [sparse(zeros) for zeros in (0, 0.5, 0.97)] + [signed(zeros) for zeros in (0, 0.4, 0.9, 0.99)]
    weights = dict(zip("abcdefghi", [*arrays, sparse(0.9, (400,)), sparse(0.9, (5, 5))], strict=True))
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    parts: dict[str, list[int]] = {name: [] for name in (MASK, VALUES, SIGNS, SCALES, TRITS, *GAPS)}
    plain = 0
    for tensor in compacted(helper.make_model(helper.make_graph([], "g", [], [], tensors))).graph.initializer:
        name, packed, part = tensor.name.partition("/packed/")
        if packed and part in parts:
            parts[part].append(len(tensor.raw_data))
        elif not packed and name in weights:
            plain += len(tensor.raw_data)
    assert {part for part, sizes in parts.items() if sizes} == parts.keys()
    assert stored_bytes(weights).compact == plain + sum(map(sum, parts.values()))


@pytest.mark.parametrize("zeros", [0.05, 0.5, 0.9, 0.99])
def test_no_form_beats_the_entropy_of_random_places_and_the_best_is_near(zeros) -> None:
    floats, ternary = {"w": sparse(zeros)}, {"w": signed(zeros)}
    stored, bound = stored_bytes(floats), entropy_bounds(floats).mask_values / 8
    assert bound <= stored.compact <= min(stored.dense, 1.1 * stored.mask, 1.1 * stored.gaps)
    assert min(stored.mask, stored.gaps) < 1.05 * bound
    signs = stored_bytes(ternary)
    assert entropy_bounds(ternary).mask_signs / 8 + 64 * 4 <= min(signs.signs, signs.compact)


def test_entropy_by_hand() -> None:
    weight = np.array([[1, -1, 2, 2], [0, 0, 0, 0]], np.float32)
    places, signs = 8.0, math.log2(4) + 3 * math.log2(4 / 3)
    bounds = entropy_bounds({"w": weight, "zero": np.zeros((2, 2), np.float32)})
    assert bounds.mask_values == pytest.approx(places + 4 * 32)
    assert bounds.mask_signs == pytest.approx(places + signs)
