"""What the loss would lose with a channel, to first order, from the gradients of a mini-batch (Molchanov et al. 2019).

Everything is built from weight times gradient, summed for each position of each axis, so one pass over the images
serves all groups and all forms. A gate of value 1 behind a layer would feel the sum of weight times gradient of that
layer, or of the batch norm behind it: gates are never really built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase

from edgecr.errors import RequestError, TrainingDiverged
from edgecr.surgery.graph import Group, Place
from edgecr.surgery.running import output_tensors, running
from edgecr.surgery.slots import Values
from edgecr.surgery.trace import TensorMember

Batch = tuple[Tensor, Tensor]
"""Normalised NCHW images and their labels."""
Loss = Callable[[Tensor, Tensor], Tensor]
"""From the model's first output and the labels to one number."""
NORMALISATIONS = (_NormBase, nn.GroupNorm)
_AXES = 2
"""Channels are made on the first axis, or on the second one of a transposed convolution."""


@dataclass(frozen=True)
class Products:
    """Weight times gradient of one mini-batch, summed over all but one axis."""

    sums: Mapping[tuple[str, int], Values]
    squares: Mapping[tuple[str, int], Values]
    """The same sums of squared products."""

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], gradients: Mapping[str, Tensor | None]) -> Products:
        """From parameters and their gradients; inside a training loop, these are its own ones."""
        sums, squares = {}, {}
        for name, gradient in gradients.items():
            weight = tensors[name].detach()
            product = torch.zeros_like(weight) if gradient is None else weight * gradient.detach()
            for axis in range(min(_AXES, product.dim())):
                sums[name, axis] = _along(product, axis)
                squares[name, axis] = _along(product.square(), axis)
        return cls(sums, squares)


def _along(product: Tensor, axis: int) -> Values:
    others = [other for other in range(product.dim()) if other != axis]
    total = (product.double().sum(others) if others else product.double()).cpu().numpy()
    if not np.isfinite(total).all():
        raise TrainingDiverged("A gradient is not finite, so channels cannot be scored by it. Lower the learning "
                               "rate of the training before, or score by the weights alone (l2).")
    return np.asarray(total, dtype=np.float64)


def products(module: nn.Module, batches: Iterable[Batch], loss: Loss) -> Iterator[Products]:
    """The products of each mini-batch; the module's tensors, statistics and gradients stay as they are."""
    device = next(module.parameters()).device
    for images, labels in batches:
        yield _one(module, images.to(device), labels.to(device), loss)


def _one(module: nn.Module, images: Tensor, labels: Tensor, loss: Loss) -> Products:
    tensors = {name: p.detach().requires_grad_(p.is_floating_point()) for name, p in module.named_parameters()}
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    wanted = {name: tensor for name, tensor in tensors.items() if tensor.requires_grad}
    with running(module, _takes_statistics), torch.enable_grad():
        out = functional_call(module, {**tensors, **buffers}, (images,))
        value = loss(output_tensors(out)[0], labels)
        gradients = torch.autograd.grad(value, list(wanted.values()), allow_unused=True)
    return Products.of(tensors, dict(zip(wanted, gradients)))


def _takes_statistics(child: nn.Module) -> bool:
    """Batch norm runs as in training; all else as in use, so that dropout adds no chance to the scores."""
    return isinstance(child, _NormBase)


def weight_form(group: Group, found: Products) -> Values:
    """The sum of squared products over all weights that make the channel."""
    return _total(group, group.weights, found.squares)


def joint_form(group: Group, found: Products) -> Values:
    """The square of the sum of products over all weights that make the channel."""
    return np.square(_total(group, group.weights, found.sums))


def gate(group: Group, module: nn.Module, found: Products) -> Values:
    """By how much the loss changes with one gate shared by all layers that make the channel.

    It stands behind their normalisations; if there are fewer of these than layers, behind the layers themselves.
    """
    return _total(group, gate_places(group, module), found.sums)


def readers_gate(group: Group, found: Products) -> Values:
    """By how much the loss changes with one gate in front of all layers that read the channel.

    While a mask hides the channel from these layers, it is by how much the loss would change if the channel came back.
    """
    return _total(group, read_places(group), found.sums)


def read_places(group: Group) -> tuple[Place[TensorMember], ...]:
    """The weights that read the channels; a group without any is refused."""
    if not group.reads:
        raise RequestError(
            f"No weights read the channels of {group.name}, so scores of what reads them say nothing. "
            "Use taylor_bn or l2."
        )
    return group.reads


def gate_places(group: Group, module: nn.Module) -> tuple[Place[TensorMember], ...]:
    """The vectors or weights that a gate would scale."""
    scales = normalisations(group, module)
    if len({place.member.layer for place in scales}) >= len(group.layers):
        return scales
    biases = {f"{layer}.bias" for layer in group.layers}
    return (*group.weights, *(place for place in group.tensors if place.member.tensor in biases))


def normalisations(group: Group, module: nn.Module) -> tuple[Place[TensorMember], ...]:
    """Learned scales and shifts of the normalisations that the channels go through."""
    learned = dict(module.named_parameters())
    return tuple(
        place
        for place in group.tensors
        if place.member.tensor in learned and isinstance(module.get_submodule(place.member.layer), NORMALISATIONS)
    )


def _total(
    group: Group, places: Sequence[Place[TensorMember]], vectors: Mapping[tuple[str, int], Values]
) -> Values:
    """Adds up what the vectors say of each channel over the places."""
    total = np.zeros(group.width)
    for place in places:
        total += vectors[place.member.tensor, place.member.dim][place.positions].sum(1)
    return total
