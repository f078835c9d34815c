"""The gradient of a gate of value 1 behind a layer follows from the layer's own gradients (Molchanov et al. 2019)."""

import pytest
import torch
from torch import nn
from torch.nn import functional


class Gated(nn.Module):
    """A convolution, perhaps a batch norm, a gate for each channel, and what reads them."""

    def __init__(self, normalised):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, bias=False)
        self.norm = nn.BatchNorm2d(5) if normalised else nn.Identity()
        self.gate = nn.Parameter(torch.ones(5))
        self.head = nn.Linear(5, 3)

    def forward(self, images):
        gated = self.norm(self.conv(images)) * self.gate[:, None, None]
        return self.head(gated.relu().mean((2, 3)))


@pytest.mark.parametrize("normalised", [True, False])
def test_the_gates_derivative(normalised):
    torch.manual_seed(0)
    module = Gated(normalised).double()
    if normalised:
        with torch.no_grad():
            module.norm.weight.uniform_(0.5, 2)
            module.norm.bias.normal_()
    labels = torch.arange(8) % 3
    functional.cross_entropy(module(torch.randn(8, 3, 7, 7, dtype=torch.float64)), labels).backward()
    if normalised:
        found = module.norm.weight * module.norm.weight.grad + module.norm.bias * module.norm.bias.grad
    else:
        found = (module.conv.weight * module.conv.weight.grad).sum((1, 2, 3))
    assert module.gate.grad.abs().min() > 1e-6
    torch.testing.assert_close(found, module.gate.grad, rtol=1e-9, atol=1e-12)


class Read(nn.Module):
    """Channels behind a rectifier, a gate for each, and two layers that read them."""

    def __init__(self, gates):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 5, 3)
        self.gate = nn.Parameter(gates)
        self.one, self.other = nn.Conv2d(5, 4, 1), nn.Conv2d(5, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)

    def forward(self, images):
        gated = self.conv(images).relu() * self.gate[:, None, None]
        return self.head((self.one(gated) + self.other(gated)).relu().mean((2, 3)))


@pytest.mark.parametrize("hidden", [(), (1, 3)])
def test_the_derivative_by_a_gate_in_front_of_readers(hidden):
    """Gradients of weights that do not see a channel still give the derivative by its gate."""

    def backward(module):
        images = torch.randn(8, 3, 7, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        functional.cross_entropy(module(images), torch.arange(8) % 3).backward()
        return module

    closed = torch.ones(5, dtype=torch.float64)
    closed[list(hidden)] = 0
    gated, dense = backward(Read(closed).double()), Read(torch.ones(5)).double()
    whole = {name: tensor.detach().clone() for name, tensor in dense.named_parameters()}
    for reader in (dense.one, dense.other):
        reader.weight.data[:, list(hidden)] = 0
    backward(dense)
    found = sum(
        (whole[f"{name}.weight"] * dense.get_parameter(f"{name}.weight").grad).sum((0, 2, 3))
        for name in ("one", "other")
    )
    assert gated.gate.grad.abs().min() > 1e-6
    torch.testing.assert_close(found, gated.gate.grad, rtol=1e-9, atol=1e-12)
