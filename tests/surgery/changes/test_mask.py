"""Masked weights: the record tells of their number, the tensors of their places."""

import pytest
import torch
from torch import nn

from edgecr.core.errors import UnsupportedModel
from edgecr.surgery.changes import Promise, WeightMask, promised, read_change, standing_masks
from edgecr.surgery.changes.mask import set_to_zero
from edgecr.surgery.latent import seen_through, stored
from edgecr.surgery.promise import ZEROS


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2))


def masked(*, rows=1):
    module = network()
    mask = torch.ones_like(module[2].weight, dtype=torch.bool)
    mask[:rows] = False
    set_to_zero(module, {"2.weight": mask})
    return module, mask


def test_the_record_comes_back_and_promises_the_zeros():
    module, mask = masked()
    change = WeightMask.of(module, ["0.weight", "2.weight"])
    assert change.plain() == {"change": "mask", "tensors": [{"tensor": "2.weight", "zeros": 16}]}
    assert read_change(change.plain()) == change
    assert change.promise(module).figures == {ZEROS: {"2.weight": 16}}
    assert torch.equal(standing_masks(module, [change])["2.weight"], mask)


def test_a_second_mask_tells_of_the_further_zeros_only():
    module, _ = masked()
    first = WeightMask.of(module, ["2.weight"])
    set_to_zero(module, {"2.weight": torch.zeros(2, 16, dtype=torch.bool)})
    second = WeightMask.of(module, ["2.weight"], first.promise(module))
    assert promised(network(), [first, second]).figures == {ZEROS: {"2.weight": 32}}
    assert WeightMask.of(module, ["2.weight"], Promise(figures={ZEROS: {"2.weight": 32}})).tensors == ()


def test_a_mask_of_no_parameter_is_explained():
    record = {"change": "mask", "tensors": [{"tensor": "9.weight", "zeros": 1}]}
    with pytest.raises(UnsupportedModel, match=r"no parameter '9\.weight'"):
        promised(network(), [read_change(record)])


def test_a_parameter_that_is_gone_needs_no_mask():
    module, _ = masked()
    change = WeightMask.of(module, ["2.weight"])
    module[2] = nn.Identity()
    assert standing_masks(module, [change]) == {}


class Doubled(nn.Module):
    def forward(self, weight):
        return weight * 2


def test_latent_weights_are_masked_under_the_name_they_have_then():
    module, mask = masked()
    change, before = WeightMask.of(module, ["2.weight"]), module[2].weight.detach().clone()
    with seen_through(module, {"2.weight": Doubled()}):
        name, latent = stored(module, "2.weight")
        assert set(standing_masks(module, [change])) == {name}
        assert name in dict(module.named_parameters())
        assert torch.equal(latent, before)
        assert torch.equal(module[2].weight, before * 2)
    assert torch.equal(module[2].weight, before * 2)
    assert type(module[2]) is nn.Linear
    assert set(dict(module.named_parameters())) == set(dict(network().named_parameters()))
    assert torch.equal(standing_masks(module, [change])["2.weight"], mask)
