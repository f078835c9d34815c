"""Exact counts, stable ties, floors of layers and blocks: invariants of every choice of weights."""

import itertools

import pytest
import torch
from torch import nn

from edgecr.core.errors import BudgetError, UnsupportedModel
from edgecr.surgery.blocks import OneInFour, TwoInFour
from edgecr.surgery.masking.choice import WeightChoice, in_blocks, lowest
from edgecr.surgery.masking.scores import WeightEvidence, weight_scores


def weights(seed=0, **shapes):
    generator = torch.Generator().manual_seed(seed)
    shapes = shapes or {"one": (6, 4, 3, 3), "two": (10, 24)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def chosen(tensors, share, **keys):
    return WeightChoice(**keys).masks({name: each.abs() for name, each in tensors.items()}, share, tensors)


def zeros(masks):
    return {name: int((~mask).sum()) for name, mask in masks.items()}


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.99])
def test_no_masked_weight_is_larger_than_one_that_stays(share):
    tensors = weights()
    masks = chosen(tensors, share)
    gone = torch.cat([tensors[name].abs()[~mask] for name, mask in masks.items()])
    left = torch.cat([tensors[name].abs()[mask] for name, mask in masks.items()])
    assert len(gone) == round(share * (len(gone) + len(left)))
    assert not len(gone) or gone.max() <= left.min()


def test_layers_lose_the_same_part_each():
    tensors = weights()
    tensors["two"] *= 100
    masks = chosen(tensors, 0.3, scope="layer")
    assert zeros(masks) == {"one": round(0.3 * 216), "two": round(0.3 * 240)}
    assert all(tensors[name].abs()[~mask].max() <= tensors[name].abs()[mask].min() for name, mask in masks.items())


def test_of_equal_weights_the_first_go():
    ones = [torch.ones(2, 3), torch.ones(4)]
    first, second = lowest(ones, 7)
    assert not first.any()
    assert second.tolist() == [False, True, True, True]
    assert all(mask.all() for mask in lowest(ones, 0))
    mixed = [torch.tensor([3.0, 1.0, 2.0, 1.0, 1.0])]
    assert lowest(mixed, 2)[0].tolist() == [True, False, True, False, True]


def test_the_order_in_memory_decides_nothing():
    tensors = weights(one=(6, 4, 3, 3))
    strided = {name: each.to(memory_format=torch.channels_last) for name, each in tensors.items()}
    tied = {name: each.round() for name, each in tensors.items()}
    tied_strided = {name: each.round() for name, each in strided.items()}
    for one, other in ((tensors, strided), (tied, tied_strided)):
        assert torch.equal(chosen(one, 0.4)["one"], chosen(other, 0.4)["one"])


def test_what_is_gone_stays_gone_whatever_its_score():
    tensors, scores = weights(), weights(seed=1)
    first = WeightChoice().masks({n: s.abs() for n, s in scores.items()}, 0.3, tensors)
    for name, mask in first.items():
        tensors[name].masked_fill_(~mask, 0)
    again = WeightChoice().masks({n: s.abs() for n, s in weights(seed=2).items()}, 0.5, tensors)
    assert sum(zeros(again).values()) == round(0.5 * 456)
    assert all((again[name] <= mask).all() for name, mask in first.items())
    fewer = WeightChoice().masks({n: s.abs() for n, s in scores.items()}, 0.1, tensors)
    assert all(torch.equal(fewer[name], mask) for name, mask in first.items())


def test_every_layer_keeps_its_least():
    tensors = weights()
    tensors["one"] *= 1e-3
    assert zeros(chosen(tensors, 0.6))["one"] == 216
    floored = zeros(chosen(tensors, 0.6, min_density=0.25))
    assert floored["one"] == 216 - 54
    assert sum(floored.values()) == round(0.6 * 456)
    with pytest.raises(BudgetError, match=r"at most 342 can \(75.0%\)"):
        chosen(tensors, 0.8, min_density=0.25)


@pytest.mark.parametrize(("kind", "kept"), [(TwoInFour, 2), (OneInFour, 1)])
def test_blocks_keep_the_largest_of_each_four_inputs(kind, kept):
    weight = weights(one=(5, 8, 3, 3))["one"]
    mask = in_blocks(weight.abs(), kept, 4)
    assert mask.shape == weight.shape
    masked = weight * mask
    blocks = masked.movedim(1, -1).reshape(-1, 4)
    assert ((blocks != 0).sum(1) == kept).all()
    assert int(mask.sum()) * 4 == kept * mask.numel()
    assert kind().count(masked.numpy()) == mask.numel() // 4
    assert kind().count(weight.numpy()) == 0
    whole = weight.abs().movedim(1, -1).reshape(-1, 4)
    for places in itertools.combinations(range(4), kept):
        assert (blocks.abs().sum(1) >= whole[:, list(places)].sum(1) - 1e-6).all()


def test_blocks_lie_along_inputs_of_linear_layers_too():
    mask = in_blocks(torch.tensor([[4.0, 1.0, 3.0, 2.0], [1.0, 1.0, 1.0, 1.0]]), 2, 4)
    assert mask.tolist() == [[True, False, True, False], [False, False, True, True]]
    assert TwoInFour().count(torch.ones(2, 6).numpy()) == 0


def test_chance_is_the_same_again_with_the_same_seed():
    layers = {"0": nn.Linear(8, 4), "1": nn.Linear(4, 2)}

    def draw(seed):
        return weight_scores.get("random")(WeightEvidence(nn.Identity(), layers, seed))

    assert all(torch.equal(draw(3)[name], each) for name, each in draw(3).items())
    assert not torch.equal(draw(3)["0.weight"], draw(4)["0.weight"])


def test_a_weight_that_is_zero_already_is_no_part_of_the_least_that_a_layer_keeps():
    tensors = {"a": torch.tensor([[0.0, 0.0, 0.0, 1.0]]), "b": torch.tensor([[2.0, 3.0, 4.0, 5.0]])}
    scores = {name: tensor.abs() for name, tensor in tensors.items()}
    masks = WeightChoice("global", 0.5).masks(scores, 0.5, tensors)
    assert masks["a"].tolist() == [[False, False, False, True]]
    assert int(masks["b"].sum()) == 3


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(bad):
    layer = torch.nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight[0, 0] = bad
    with pytest.raises(UnsupportedModel, match="cannot be ranked"):
        weight_scores.get("magnitude")(WeightEvidence(layer, {"it": layer}))
