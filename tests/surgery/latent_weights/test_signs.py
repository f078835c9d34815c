"""Weights of one magnitude: values, gradients, and zeros that stay."""

import pytest
import torch
from torch import nn

from edgecr.surgery.latent import seen_through, stored
from edgecr.surgery.latent_weights.signs import SignWeight, signs_of


@pytest.mark.parametrize(("scale", "rows"), [("channel", 4), ("tensor", 1)])
def test_a_channel_or_a_tensor_has_the_mean_magnitude_of_its_living_weights(scale, rows):
    weight = torch.randn(4, 3, 2, 2)
    weight[1, 0], weight[2] = 0, 0
    found = signs_of(weight, scale)
    assert torch.equal(found.sign(), weight.sign())
    for own, signs in zip(weight.reshape(rows, -1), found.reshape(rows, -1)):
        if own.any():
            (alpha,) = signs[signs != 0].abs().unique()
            assert torch.allclose(alpha, own[own != 0].abs().mean())
    assert torch.allclose(signs_of(weight * 3, scale), found * 3)
    assert torch.equal(signs_of(found, scale).sign(), found.sign())


def test_gradients_pass_where_latent_weights_are_within_one():
    layer = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.5, -2.0, 1.0], [0.0, -0.1, 1.5]]))
    with seen_through(layer, {"weight": SignWeight("channel")}):
        layer(torch.tensor([[1.0, 2.0, 3.0]])).sum().backward()
        gradient = stored(layer, "weight")[1].grad
    assert torch.equal(gradient, torch.tensor([[1.0, 0.0, 3.0], [1.0, 2.0, 0.0]]))
    assert torch.allclose(
        layer.weight, torch.tensor([[3.5, -3.5, 3.5], [0.0, -2.4, 2.4]]) / torch.tensor([[3.0], [3.0]])
    )
