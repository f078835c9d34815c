"""Binary weights: the record, its promise, and what is left of it after other changes."""

import numpy as np
import pytest
import torch
from torch import nn

from edgecr.core.errors import UnsupportedModel
from edgecr.surgery.changes import BinaryWeights, ChannelCut, WeightMask, promised, read_change, trainable
from edgecr.surgery.changes.binary import BINARY, BinaryRows
from edgecr.surgery.changes.cut import remove
from edgecr.surgery.promise import ZEROS


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1, bias=False))


CHANGE = BinaryWeights(tensors=("0.weight", "2.weight"))


def binary():
    module = network()
    CHANGE.impose(module)
    return module


def test_the_record_comes_back_and_promises_all_weights():
    assert CHANGE.plain() == {"change": "binary", "tensors": ["0.weight", "2.weight"]}
    assert read_change(CHANGE.plain()) == CHANGE
    assert promised(network(), [CHANGE]).figures == {BINARY: {"0.weight": 108, "2.weight": 8}}
    with pytest.raises(UnsupportedModel, match=r"no parameter '9\.weight'"):
        promised(network(), [BinaryWeights(tensors=("9.weight",))])


def test_channels_of_one_magnitude_are_counted():
    count = BinaryRows().count
    weights = binary()[0].weight.detach().numpy()
    assert count(weights) == 108
    assert count(weights * np.float32([[[[0.3]]], [[[-1.7]]], [[[2.1]]], [[[9.9]]]])) == 108, "as folding leaves them"
    other = weights.copy()
    other[1, 0, 0, 0] = np.nextafter(other[1, 0, 0, 0], np.float32(9))
    assert count(other) == 81
    other[1] = 0
    assert count(other) == 108
    assert count(np.empty(0, np.float32)) == 0


def test_cut_channels_leave_the_rest_of_the_promise():
    module = binary()
    parts = [("0.weight", 0, "out"), ("0.bias", 0, "out"), ("2.weight", 1, "in")]
    parts += [(f"1.{name}", 0, "out") for name in ("weight", "bias", "running_mean", "running_var")]
    cut = ChannelCut.parse({"tensors": [{"tensor": n, "dim": d, "removed": "1", "role": r} for n, d, r in parts]})
    left = promised(network(), [CHANGE, cut]).figures[BINARY]
    assert left == {"0.weight": 81, "2.weight": 6}
    remove(module, cut)
    assert {name: BinaryRows().count(module.get_parameter(name).detach().numpy()) for name in left} == left
    with trainable(module, [CHANGE, cut]):
        module(torch.rand(2, 3, 4, 4)).sum().backward()
    assert BinaryRows().count(module[0].weight.detach().numpy()) == 81


def test_a_layer_that_is_gone_or_binary_twice_is_trained_all_the_same():
    module = binary()
    module[2] = nn.Identity()
    with trainable(module, [CHANGE, CHANGE]):
        assert "0.parametrizations.weight.original" in dict(module.named_parameters())


def test_masked_weights_are_zeros_of_binary_channels():
    module = network()
    with torch.no_grad():
        module[0].weight.view(-1)[::3] = 0
    mask = WeightMask.of(module, ["0.weight"])
    CHANGE.impose(module)
    assert promised(network(), [mask, CHANGE]).figures == {
        ZEROS: {"0.weight": 36},
        BINARY: {"0.weight": 108, "2.weight": 8},
    }
    assert int((module[0].weight == 0).sum()) == 36
    assert BinaryRows().count(module[0].weight.detach().numpy()) == 108
