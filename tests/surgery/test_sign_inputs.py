"""Convolutions of signs: their numbers and gradients, their record, and what cannot take signs."""

import pytest
import torch
from torch import nn

from edgecr.core.errors import UnsupportedModel
from edgecr.surgery.changes import BinaryInputs, BinaryWeights, promised, read_change, trainable
from edgecr.surgery.sign_inputs import SignInputConv2d, layers_that_see_signs, sees_signs

CHANGE = BinaryInputs(layers=("0",))


def network(**keys):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, **keys), nn.ReLU())


def test_signs_come_in_zero_is_below_and_padding_stays_zero():
    module = network(bias=False)
    CHANGE.replay(module)
    nn.init.ones_(module[0].weight)
    given = torch.tensor([2.0, 0.0, -0.1, 1e-9]).view(1, 4, 1, 1).expand(1, 4, 2, 2)
    assert module[0](given).flatten().tolist() == [0.0] * 16
    assert module[0](given.abs() + 1).flatten().tolist() == [16.0] * 16, "four places of four channels, none of padding"


def test_the_gradient_passes_where_an_input_is_small():
    module = network(bias=False)
    CHANGE.replay(module)
    nn.init.ones_(module[0].weight)
    given = torch.tensor([1.0, -1.0, 1.1, -7.0]).view(1, 4, 1, 1).requires_grad_()
    module[0](given).sum().backward()
    assert given.grad.flatten().tolist() == [4.0, 4.0, 0.0, 0.0]


def test_the_record_comes_back_and_leaves_tensors_and_names_alone():
    assert read_change(CHANGE.plain()) == CHANGE
    module = network()
    before = module.state_dict()
    assert not promised(module, [CHANGE]).figures
    assert layers_that_see_signs(module) == ["0"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_latent_weights_leave_the_signs_in_place():
    module = network()
    CHANGE.replay(module)
    with trainable(module, [CHANGE, BinaryWeights(tensors=("0.weight",))]):
        assert layers_that_see_signs(module) == ["0"]
        module(torch.rand(1, 4, 2, 2)).sum().backward()
    assert type(module[0]) is SignInputConv2d


class Other(nn.Conv2d):
    pass


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (nn.Linear(4, 4), "it is a Linear"),
        (Other(4, 4, 3), "it is a Other"),
        (nn.Conv2d(4, 4, 3, groups=2), "its channels are in groups"),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), "its padding is reflect"),
    ],
)
def test_other_layers_are_refused(layer, why):
    with pytest.raises(UnsupportedModel, match=f"'0' cannot take signs: {why}"):
        sees_signs(nn.Sequential(layer), "0")


def test_a_layer_that_is_not_there_is_refused():
    with pytest.raises(UnsupportedModel, match="no layer '9' that could take signs"):
        BinaryInputs(layers=("9",)).replay(network())
