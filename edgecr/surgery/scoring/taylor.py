"""The first-order change of the loss without a channel, from the gradients of a mini-batch (Molchanov et al. 2019).

Everything is built from weight times gradient, summed for each position of each axis, so one pass over the images
serves all groups and all forms. The gradient of a gate of value 1 behind a layer is the sum of weight times gradient
of that layer, or of the batch norm behind it: gates are never really built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from edgecr.core.errors import RequestError, TrainingDiverged
from edgecr.surgery.tracing.graph import Group, Place
from edgecr.surgery.tracing.running import called_with, output_tensors, running
from edgecr.surgery.tracing.slots import Values
from edgecr.surgery.tracing.trace import TensorMember

Batch = tuple[Tensor, Tensor]
"""Normalised NCHW images and their labels."""
Loss = Callable[[Tensor, Tensor], Tensor]
"""From the model's first output and the labels to one number."""
NORMALISATIONS = (_NormBase, nn.GroupNorm)
_AXES = 2
"""Channels are made on the first axis, or on the second one of a transposed convolution."""
_AT_ONCE = 2**17
"""Elements of a weight that are multiplied at once."""


class Products:
    """Weight times gradient of one mini-batch, summed over all but one axis: once a score asks for it.

    A training has its gradients at hand in each update, and most scores look at few of them (those of the batch norms).
    """

    def __init__(self, pairs: Mapping[str, tuple[Tensor, Tensor | None]]) -> None:
        self._pairs = pairs
        self.sums = _Sums(pairs, 1)
        self.squares = _Sums(pairs, 2)
        """The same sums of squared products."""

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], gradients: Mapping[str, Tensor | None]) -> Products:
        """From parameters and their gradients, which must not change before the scores are computed."""
        return cls(
            {
                name: (tensors[name].detach(), None if gradient is None else gradient.detach())
                for name, gradient in gradients.items()
            }
        )

    def settled(self) -> Products:
        """These, with everything summed up, so that the gradients need not be kept."""
        for name, (weight, _) in self._pairs.items():
            for axis in range(min(_AXES, weight.dim())):
                self.sums[name, axis], self.squares[name, axis]
        self._pairs = {}
        self.sums.forget()
        self.squares.forget()
        return self


class _Sums(Mapping[tuple[str, int], Values]):
    """Powers of products along one axis of each tensor, by name and axis; each is summed up once."""

    def __init__(self, pairs: Mapping[str, tuple[Tensor, Tensor | None]], power: int) -> None:
        self._pairs, self._power = pairs, power
        self._found: dict[tuple[str, int], Values] = {}

    def __getitem__(self, key: tuple[str, int]) -> Values:
        if key not in self._found:
            name, axis = key
            self._found[key] = _along(*self._pairs[name], axis, self._power)
        return self._found[key]

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def forget(self) -> None:
        """Lets go of the tensors; what was summed up stays."""
        self._pairs = {}


def _along(weight: Tensor, gradient: Tensor | None, axis: int, power: int) -> Values:
    """Weight times gradient to a power, summed over all other axes in double precision."""
    if gradient is None:
        return np.zeros(weight.shape[axis])
    others = [other for other in range(weight.dim()) if other != axis]
    totals = []
    rows = _rows(weight, axis)
    for some, slopes in zip(torch.split(weight, rows, axis), torch.split(gradient, rows, axis)):
        product = some * slopes
        product = product.square_() if power > 1 else product
        totals.append(product.sum(others, dtype=torch.float64) if others else product.double())
    total = torch.cat(totals).cpu().numpy()
    if not np.isfinite(total).all():
        raise TrainingDiverged(
            "A gradient is not finite, so channels cannot be scored by it. Lower the learning "
            "rate of the training before, or score by the weights alone (l2)."
        )
    return np.asarray(total, dtype=np.float64)


def _rows(weight: Tensor, axis: int) -> int:
    """Returns the number of positions of an axis processed at once: on a CPU, as many as fit its cache."""
    size = max(weight.shape[axis], 1)
    return max(1, _AT_ONCE * size // max(weight.numel(), 1)) if weight.device.type == "cpu" else size


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
        out = called_with(module, {**tensors, **buffers}, images)
        value = loss(output_tensors(out)[0], labels)
        gradients = torch.autograd.grad(value, list(wanted.values()), allow_unused=True)
    return Products.of(tensors, dict(zip(wanted, gradients))).settled()


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
    return tuple(place for place in group.tensors if _scales(module.get_submodule(place.member.layer), place.member))


def _scales(child: nn.Module, member: TensorMember) -> bool:
    learned = getattr(child, member.tensor.rpartition(".")[2], None)
    return isinstance(child, NORMALISATIONS) and isinstance(learned, nn.Parameter)


def _total(group: Group, places: Sequence[Place[TensorMember]], vectors: Mapping[tuple[str, int], Values]) -> Values:
    """Adds up what the vectors say of each channel over the places."""
    total = np.zeros(group.width)
    for place in places:
        total += vectors[place.member.tensor, place.member.dim][place.positions].sum(1)
    return total
