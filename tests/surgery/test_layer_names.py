"""Layers by name: shared weights are refused, unless they are left out or asked for."""

import pytest
from torch import nn

from edgecr.core.errors import UnsupportedModel
from edgecr.surgery.layer_names import weighted_layers


def test_layers_that_share_a_weight():
    module = nn.ModuleDict({"one": nn.Linear(3, 3), "two": nn.Linear(3, 3), "three": nn.Linear(3, 3)})
    module["two"].weight = module["one"].weight
    with pytest.raises(UnsupportedModel, match="The weight of one is also another layer's; name both in exclude"):
        weighted_layers(module)
    assert list(weighted_layers(module, ["one", "two"])) == ["three"]
    assert list(weighted_layers(module, shared_too=True)) == ["one", "two", "three"]
