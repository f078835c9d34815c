"""A module that ran with stand-ins in place of its tensors has its own ones again, in every place."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from edgecr.surgery.tracing.running import answers, shadows


def plain() -> nn.Module:
    return nn.Conv2d(3, 3, 3, padding=1)


def parametrised() -> nn.Module:
    layer: nn.Module = weight_norm(plain())
    return layer


def under_two_names(make: Callable[[], nn.Module]) -> nn.Module:
    layer = make()
    return nn.Sequential(layer, nn.BatchNorm2d(3), nn.ReLU(), layer)


def tied() -> nn.Module:
    one, other = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
    other.weight = one.weight
    return nn.Sequential(one, other)


@pytest.mark.parametrize(
    "module", [under_two_names(plain), under_two_names(parametrised), tied()], ids=["plain", "parametrised", "tied"]
)
def test_stand_ins_are_gone_afterwards(module: nn.Module) -> None:
    module.eval()
    example = torch.rand(1, 3, 4, 4)
    before, own = module(example), [id(tensor) for tensor in module.parameters()]
    (out,) = answers(module, example.to("meta"), state=shadows(module))
    assert out.is_meta
    assert [id(tensor) for tensor in module.parameters()] == own
    assert torch.equal(module(example), before)


def test_a_tied_tensor_is_replaced_in_all_its_places() -> None:
    module, example = tied().eval(), torch.rand(1, 3, 4, 4)
    twice = {name: 2 * tensor.detach() for name, tensor in module.named_parameters()}
    (out,) = answers(module, example, state=twice)
    (expected,) = answers(module.double(), example.double(), state={k: v.double() for k, v in twice.items()})
    again = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)).eval()
    again.load_state_dict(twice | {"1.weight": twice["0.weight"]})
    assert torch.allclose(out, again(example), atol=1e-6)
    assert torch.allclose(out, expected.float(), atol=1e-6)
