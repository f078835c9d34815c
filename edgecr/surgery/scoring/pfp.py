"""Sensitivities of channels by PFP, and the channel counts that it allots by them (Liebenwein et al. 2020).

A weight's share of an output is its product with the activation, over the sum of all products with weights of the
same sign; negative activations are treated apart. A channel is as sensitive as its largest share in any image,
output, place and kernel position. Biases take no part.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from edgecr.core.errors import RequestError, UnsupportedModel
from edgecr.surgery.counters import count
from edgecr.surgery.tracing.graph import Group
from edgecr.surgery.tracing.running import answers
from edgecr.surgery.tracing.slots import Ids, Values

CONFIDENCE = 3.0
"""The constant before the logarithm in the bound on the number of samples."""
FAILURE = 1e-16
"""The probability with which the bound may not hold."""
_NOTHING = 1.19e-7
"""Sums of products below this are no output at all."""
_LOWEST, _HIGHEST = math.log(1e-140), math.log(1e150)
OPERATIONS = 12
"""Per multiply-accumulate: a product and two passes over the shares, for both signs of inputs and of weights."""
TELL_FROM = 0.5
"""Minutes from which on it is told, after the first image, how long all of them take."""
_aten = torch.ops.aten


@dataclass(frozen=True)
class Reader:
    """The sensitivity of each input channel of one weight, and what the bound needs to know of the layer."""

    values: Values
    patches: int
    """Places of the output."""
    kernel: int
    """Positions of the kernel."""

    @property
    def factor(self) -> float:
        """The factor of the sum of sensitivities in the bound."""
        return 2 * CONFIDENCE * math.log(8 * (self.patches + 1) * self.kernel / FAILURE)

    def joined(self, other: Reader) -> Reader:
        """The larger of each, as over more images."""
        patches = max(self.patches, other.patches)
        return Reader(np.maximum(self.values, other.values), patches, self.kernel)


def shares(columns: Tensor, weight: Tensor) -> Tensor:
    """The largest share of each input in any output at any place; (inputs, places) and (outputs, inputs)."""
    largest = torch.zeros(len(columns), dtype=columns.dtype)
    halves = [columns.relu()] + ([columns.neg().relu()] if bool((columns < 0).any()) else [])
    for positive in halves:
        for signed in (weight.relu(), weight.neg().relu()):
            outputs = signed @ positive
            inverse = torch.where(outputs > _NOTHING, outputs.reciprocal(), 0)
            for one, row in zip(inverse, signed):
                largest = torch.maximum(largest, (positive * one).amax(1) * row)
    return largest.clamp(max=1)


def sample_size(outputs: Sequence[int]) -> int:
    """The images that sensitivities must be taken from, for layers with this many output elements each."""
    return math.ceil(3 * math.log(8 * max(outputs) * sum(outputs) / FAILURE))


class _Watcher(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Looks into convolutions and linear layers as their operators run."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: dict[str, Reader] = {}
        self._names = {p.untyped_storage().data_ptr(): name for name, p in module.named_parameters()}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs one operator; a layer's shares are noted under the name of its weight."""
        if func.overloadpacket in (_aten.convolution, _aten._convolution):
            self._convolution(*args[:9])
        elif func.overloadpacket in (_aten.mm, _aten.addmm):
            rows, weight = args[-2:]
            self._note(weight, lambda: (shares(rows.T.contiguous(), weight.T), len(rows), 1))
        return func(*args, **(kwargs or {}))

    def _note(self, weight: Tensor, look: Callable[[], tuple[Tensor, int, int]]) -> None:
        name = self._names.get(weight.untyped_storage().data_ptr())
        if name is None:
            return
        values, patches, kernel = look()
        reader = Reader(values.double().numpy(), patches, kernel)
        self.found[name] = self.found[name].joined(reader) if name in self.found else reader

    def _convolution(
        self,
        image: Tensor,
        weight: Tensor,
        _: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        transposed: bool,
        __: Any,
        groups: int,
    ) -> None:
        if transposed or weight.dim() != 4:
            name = self._names.get(weight.untyped_storage().data_ptr(), "a layer")
            raise UnsupportedModel(
                f"Score pfp looks into plain convolutions of images only, and {name} is none. Choose another score."
            )

        def look() -> tuple[Tensor, int, int]:
            unfolded = functional.unfold(image, weight.shape[2:], dilation, padding, stride)
            parts = zip(unfolded[0].chunk(groups), weight.flatten(1).chunk(groups))
            each = torch.stack([shares(columns, part) for columns, part in parts]).amax(0)
            kernel = weight.shape[2] * weight.shape[3]
            return each.reshape(-1, kernel).amax(1), unfolded.shape[2], kernel

        if groups == 1 or weight.shape[1] > 1:  # a depthwise convolution has no other input to compare with
            self._note(weight, look)


def read_sensitivities(
    module: nn.Module, batches: Iterable[Tensor], most: int | None = None, say: Callable[[str], None] | None = None
) -> dict[str, Reader]:
    """Returns the sensitivities of the channels that each weight of a module reads; one image runs at a time.

    As many images are used as PFP's bound asks for, but at most ``most``; ``say`` is told the cost before it starts.
    """
    device, watcher = next(module.parameters()).device, _Watcher(module)
    images, tell = _one_by_one(batches), say or (lambda _: None)
    first = next(images, None)
    if first is None:
        return {}
    size, begin = _announced(module, tuple(first.shape[1:]), most, tell), time.monotonic()
    for number, image in enumerate(islice(chain([first], images), size)):
        with watcher:
            answers(module, image.to(device))
        if number == 0 and (minutes := (time.monotonic() - begin) * size / 60) > TELL_FROM:
            tell(f"One image takes {60 * minutes / size:.2g} s, so all {size} take about {minutes:.1f} minutes.")
    return watcher.found


def _one_by_one(batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """Batches of one image each."""
    return (batch[index : index + 1] for batch in batches for index in range(len(batch)))


def _announced(module: nn.Module, shape: tuple[int, ...], most: int | None, say: Callable[[str], None]) -> int:
    """The size of the sample, told with what looking at it costs."""
    counted = count(module, shape)
    outputs = [layer.weight_shape[0] * layer.out_positions for layer in counted.layers]
    asked = sample_size(outputs)
    size = asked if most is None else max(1, min(asked, most))
    fewer = f" (its bound asks for {asked}, but there are too few)" if size < asked else ""
    operations = size * OPERATIONS * counted.macs / 1e9
    say(f"Score pfp looks at {size} training images one by one{fewer}: about {operations:.3g} billion operations.")
    return size


def group_sensitivity(group: Group, found: dict[str, Reader]) -> Reader:
    """A channel is as sensitive as the most sensitive of its readers finds it."""
    values, patches, kernel = np.zeros(group.width), 1, 1
    if not any(place.member.tensor in found for place in group.reads):
        raise RequestError(
            f"Score pfp looked into none of the layers that read {group.name} ({', '.join(group.readers)}), so it "
            "knows nothing of these channels. Choose another score, or `exclude` them."
        )
    for place in group.reads:
        reader = found.get(place.member.tensor)
        if reader is not None:
            values = np.maximum(values, reader.values[place.positions].max(1))
            patches, kernel = max((patches, kernel), (reader.patches, reader.kernel), key=math.prod)
    return Reader(values, patches, kernel)


def pfp_keep(reader: Reader, error: float) -> int:
    """Returns the number of channels that a layer needs so that its outputs err by at most this factor."""
    total = float(reader.values.sum())
    chances = reader.values[reader.values > 0] / max(total, np.finfo(np.float64).tiny)
    draws = max(1, math.ceil(3 * (6 + 2 * error) * reader.factor * total / error**2))
    with np.errstate(divide="ignore"):  # a chance of one is drawn for certain
        distinct = -np.expm1(draws * np.log1p(-chances))
    return max(1, min(len(reader.values), math.ceil(float(distinct.sum()) - 1e-9)))


def pfp_allocation(readers: Sequence[Reader]) -> Callable[[float], Ids]:
    """The channels that each group needs at a level of error between 0 (the least) and 1 (the most that is tried)."""

    def kept(level: float) -> Ids:
        error = math.exp(_LOWEST + level * (_HIGHEST - _LOWEST))
        return np.array([pfp_keep(reader, error) for reader in readers], dtype=np.int64)

    return kept
