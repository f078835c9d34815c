"""Networks of random weights that behave like trained ones, as several benchmarks need them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def calm(module: nn.Module) -> None:
    """Gives every batch norm scales and biases as after a training: none at zero, and biases mostly positive.

    With scales of zero, as timm begins, whole branches are dead; with biases of zero a deep network of random weights
    magnifies the smallest rounding.
    """
    generator = torch.Generator().manual_seed(0)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.weight.data.fill_(1)
            norm.bias.data.copy_(torch.rand(norm.bias.shape, generator=generator) + 0.5)


def take_statistics(module: nn.Module, inputs: Tensor) -> None:
    """Gives every batch norm the statistics of some inputs, so that activations have the sizes of a trained network."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = None
    module.train()
    with torch.no_grad():
        module(inputs)
    module.eval()


def recognise(module: nn.Module, inputs: Tensor, labels: Tensor) -> None:
    """Gives the last layer weights that tell the classes of some inputs apart, by the means of their features.

    A random classifier prefers its first class to the second by next to nothing, so that any rounding changes answers.
    """
    seen: list[tuple[nn.Linear | nn.Conv2d, Tensor]] = []

    def note(layer: nn.Module, given: tuple[Tensor, ...], _: Tensor) -> None:
        assert isinstance(layer, (nn.Linear, nn.Conv2d))
        seen[:] = [(layer, given[0].detach().flatten(2).mean(2) if given[0].dim() == 4 else given[0].detach())]

    kinds = (nn.Linear, nn.Conv2d)
    hooks = [layer.register_forward_hook(note) for layer in module.modules() if isinstance(layer, kinds)]
    with torch.no_grad():
        module(inputs)
        for hook in hooks:
            hook.remove()
        layer, features = seen[0]
        weight, mean = torch.zeros(layer.weight.shape[0], features.shape[1]), features.mean(0)
        for label in labels.unique():
            direction = features[labels == label].mean(0) - mean
            weight[label] = direction / direction.square().sum()
        layer.weight.copy_(weight.reshape(layer.weight.shape))
        if layer.bias is not None:
            layer.bias.copy_(-weight @ mean)
