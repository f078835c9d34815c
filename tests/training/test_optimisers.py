import pytest
import torch
from torch import nn

from edgecr.training.optimisers import Descent, build
from tests.workplace import options


def module():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2, bias=False))


KINDS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


@pytest.mark.parametrize("name", KINDS)
def test_options_reach_the_optimiser(name):
    optimiser = build(module(), options(optimiser=name, lr=0.03, weight_decay=0.01))
    assert type(optimiser) is KINDS[name]
    (group,) = optimiser.param_groups
    assert (group["lr"], group["weight_decay"], len(group["params"])) == (0.03, 0.01, 5)


def test_decay_can_spare_norms_and_biases():
    optimiser = build(module(), options(decay_norm=False, weight_decay=0.01))
    decayed, spared = optimiser.param_groups
    assert [p.ndim for p in decayed["params"]] == [2, 2]
    assert ([p.ndim for p in spared["params"]], spared["weight_decay"]) == ([1, 1, 1], 0.0)


def test_frozen_parameters_are_left_alone():
    frozen = module()
    frozen[0].requires_grad_(False)
    assert len(build(frozen, options()).param_groups[0]["params"]) == 3


def test_clipping_bounds_the_whole_gradient():
    weight = nn.Parameter(torch.zeros(4))
    optimiser = torch.optim.SGD([weight], lr=1.0)

    def gradients():
        weight.grad = torch.full((4,), 100.0)
        return "told"

    assert Descent([weight], optimiser, 0.5)(gradients) == "told"
    assert weight.detach().norm().item() == pytest.approx(0.5, rel=1e-4)
