"""What a gate of value 1 behind a layer would feel is already in the layer's own gradients (Molchanov et al. 2019)."""

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
