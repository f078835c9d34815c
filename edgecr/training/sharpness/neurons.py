"""The neurons of a module: rows of weights, and the parameters that belong to each row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from edgecr.surgery.latent import stored
from edgecr.surgery.tracing.running import example_for, running

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_WITH_NEURONS = (*_CONVOLUTIONS, nn.Linear)


@dataclass(frozen=True)
class Part:
    """A parameter with one row, or one number, for each neuron of a layer."""

    parameter: nn.Parameter
    is_weight: bool
    """True if the parameter's size stretches the balls; False for shifts."""


@dataclass(frozen=True)
class NeuronLayer:
    """The neurons of one convolution or linear layer."""

    name: str
    """Name of the weight."""
    module: nn.Module
    parts: tuple[Part, ...]
    """The weight, and what else belongs to its neurons."""

    @property
    def weight(self) -> nn.Parameter:
        """One row for each neuron."""
        return self.parts[0].parameter


Importance = Callable[[str, nn.Module], Tensor | None]
"""Scores the neurons of a layer, given the name of its weight; None: none of them can be pruned."""


def filter_norms(name: str, layer: nn.Module) -> Tensor | None:
    """The Euclidean norm of each filter of a convolution; neurons of linear layers stay."""
    weight = layer.weight
    if not isinstance(layer, _CONVOLUTIONS) or not isinstance(weight, Tensor):
        return None
    norms: Tensor = torch.linalg.vector_norm(rows(weight.detach()), dim=1)
    return norms


def rows(values: Tensor) -> Tensor:
    """One row of numbers for each neuron."""
    return values.reshape(len(values), -1)


def layers_of(module: nn.Module, input_shape: tuple[int, ...] | None = None) -> list[NeuronLayer]:
    """All layers with neurons that are trained; given an input's shape, with their biases and batch norms."""
    followers = {} if input_shape is None else _followers(module, input_shape)
    seen: set[nn.Parameter] = set()
    found = []
    for name, child in module.named_modules():
        if not isinstance(child, _WITH_NEURONS) or (own := _weight(child)) is None or own[1] in seen:
            continue
        present, weight = own
        if weight.requires_grad:
            seen.add(weight)
            beside = () if input_shape is None else tuple(_beside(child, followers.get(child), seen))
            found.append(NeuronLayer(f"{name}.{present}".lstrip("."), child, (Part(weight, True), *beside)))
    return found


def _weight(layer: nn.Module) -> tuple[str, nn.Parameter] | None:
    """A layer's weight under its present name, the latent one where the network sees another; None if it has none."""
    try:
        return stored(layer, "weight")
    except AttributeError:
        return None


def _beside(layer: nn.Module, norm: nn.Module | None, seen: set[nn.Parameter]) -> Iterator[Part]:
    """The bias of a layer, and scale and shift of the batch norm behind it."""
    for owner, key in ((layer, "bias"), (norm, "weight"), (norm, "bias")):
        parameter = owner._parameters.get(key) if owner is not None else None
        if parameter is not None and parameter.requires_grad and parameter not in seen:
            seen.add(parameter)
            yield Part(parameter, key == "weight")


def _followers(module: nn.Module, input_shape: tuple[int, ...]) -> dict[nn.Module, nn.Module]:
    """The batch norm that reads the very output of each layer, found by running the module once."""
    made: dict[int, tuple[nn.Module, Tensor]] = {}
    followers: dict[nn.Module, nn.Module] = {}

    def note(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        made[id(output)] = (layer, output)  # holding the output keeps its id from being used again

    def look(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs and id(inputs[0]) in made:
            followers.setdefault(made[id(inputs[0])][0], norm)

    hooks = [m.register_forward_hook(note) for m in module.modules() if isinstance(m, _WITH_NEURONS)]
    hooks += [m.register_forward_pre_hook(look) for m in module.modules() if isinstance(m, _BatchNorm)]
    try:
        with running(module):
            module(example_for(module, input_shape))
    finally:
        for hook in hooks:
            hook.remove()
    return followers
