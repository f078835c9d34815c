"""The convolutions and linear layers of a model with all that their latency depends on, at any channel counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from edgecr.core.errors import UnsupportedModel
from edgecr.latency import LayerConfig
from edgecr.latency.interpolation import Pair
from edgecr.surgery.planning.cost import Cost, Counts
from edgecr.surgery.planning.widths import Limits, allowed_widths
from edgecr.surgery.tracing.graph import ChannelGraph
from edgecr.surgery.tracing.running import answers, example_for

_aten = torch.ops.aten


@dataclass(frozen=True)
class Layer:
    """One use of a weight; ``tensor`` is the parameter's name, empty when the weight is computed."""

    tensor: str
    config: LayerConfig


def layers_of(module: nn.Module, input_shape: Sequence[int], batch: int = 1) -> tuple[Layer, ...]:
    """Every convolution and linear layer in the order in which it runs; the module is left as it was."""
    watcher = _Watcher(module, batch)
    with watcher:
        answers(module, example_for(module, tuple(input_shape)))
    return tuple(watcher.layers)


def configurations(module: nn.Module, input_shape: Sequence[int], batch: int = 1) -> list[LayerConfig]:
    """The configuration of every layer, one for each use."""
    return [layer.config for layer in layers_of(module, input_shape, batch)]


class _Watcher(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes layers as their operators run; one image runs, the batch is only written down."""

    def __init__(self, module: nn.Module, batch: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.layers: list[Layer] = []
        self._batch = batch
        self._names = {_place(tensor): name for name, tensor in module.named_parameters()}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs one operator and notes it if it is a layer."""
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in (_aten.convolution, _aten._convolution):
            self._convolution(args)
        elif func.overloadpacket in (_aten.mm, _aten.addmm):
            self._linear(*args[-2:])
        return result

    def _convolution(self, args: Any) -> None:
        image, weight, _, stride, padding, dilation, transposed, _, groups = args[:9]
        name = self._names.get(_place(weight), "")
        if transposed or weight.dim() != 4:
            kind = "transposed" if transposed else f"{weight.dim() - 2}-dimensional"
            raise UnsupportedModel(
                f"{name or 'A convolution'} is {kind}; latency tables hold plain "
                "convolutions of images and linear layers only."
            )
        config = LayerConfig(
            "conv",
            image.shape[1],
            weight.shape[0],
            self._batch,
            image.shape[2],
            image.shape[3],
            _pair(weight.shape[2:]),
            _pair(stride),
            _pair(padding),
            _pair(dilation),
            groups,
        )
        self.layers.append(Layer(name, config))

    def _linear(self, rows: Tensor, weight: Tensor) -> None:
        name = self._names.get(_place(weight), "")
        if name:  # a product of two activations is no layer
            inputs, outputs = weight.shape
            self.layers.append(Layer(name, LayerConfig("linear", inputs, outputs, self._batch, rows.shape[0])))


def _place(tensor: Tensor) -> int:
    """Returns the address of a tensor's storage, which a parameter and its transpose share."""
    return tensor.untyped_storage().data_ptr()


def _pair(values: Sequence[int]) -> Pair:
    """One value for both axes is written once by some callers."""
    return (int(values[0]), int(values[-1]))


@dataclass(frozen=True)
class LayerSizes:
    """The configurations of all layers as a function of the channels that each group keeps."""

    module: nn.Module
    graph: ChannelGraph
    batch: int = 1

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The layers with all their channels."""
        return layers_of(self.module, self.graph.input_shape, self.batch)

    @cached_property
    def cost(self) -> Cost:
        """Parameters and multiply-accumulates as functions of the same numbers."""
        return Cost(self.module, self.graph)

    @property
    def widths(self) -> Counts:
        """Channels of each group before any removal."""
        return self.cost.widths

    def configurations(self, kept: Counts) -> list[LayerConfig]:
        """Returns the configurations of the layers when the groups keep this many channels."""
        shapes = self.cost.shapes(kept)
        return [with_shape(layer.config, shapes.get(layer.tensor)) for layer in self.layers]


def with_shape(config: LayerConfig, shape: tuple[int, ...] | None) -> LayerConfig:
    """A layer whose weight has shrunk to a shape; narrow groups go as a whole."""
    if shape is None:
        return config
    groups = config.groups * shape[0] // config.cout if config.tied else config.groups
    return replace(config, cin=shape[1] * groups, cout=shape[0], groups=groups)


def reachable(sizes: LayerSizes, limits: Limits, most_counts: int = 16, most_cells: int = 64) -> list[LayerConfig]:
    """The configurations that plans under these limits can lead to, each once.

    Of many widths only some are taken, evenly; where a layer has more combinations of inputs and outputs than
    ``most_cells``, only those with all inputs or all outputs (a plan that ends elsewhere needs more entries).
    """
    found: dict[LayerConfig, None] = {}
    for layer, (inputs, outputs) in zip(sizes.layers, _counts(sizes, limits, most_counts)):
        config = layer.config
        if config.tied:
            found |= dict.fromkeys(config.resized("cout", count) for count in sorted(outputs))
            continue
        whole = len(inputs) * len(outputs) <= most_cells
        for cin, cout in product(sorted(inputs), sorted(outputs)):
            if whole or cin == config.cin or cout == config.cout:
                found[replace(config, cin=cin, cout=cout)] = None
    return list(found)


def _counts(sizes: LayerSizes, limits: Limits, most: int) -> list[tuple[set[int], set[int]]]:
    """For each layer the inputs and outputs that it has when one group after the other shrinks."""
    counts = [({layer.config.cin}, {layer.config.cout}) for layer in sizes.layers]
    readers: dict[str, list[int]] = {}
    for number, layer in enumerate(sizes.layers):
        readers.setdefault(layer.tensor, []).append(number)
    cost = sizes.cost
    for number, group in enumerate(sizes.graph.groups):
        widths, touched = allowed_widths(group, limits), cost.touched(number)
        some = widths[::-1][:: math.ceil(len(widths) / most)]
        for place, shapes in zip(touched, cost.axes_along(sizes.widths, number, some, touched).swapaxes(0, 1)):
            for reader in readers.get(cost.parameters[place], ()):
                inputs, outputs = counts[reader]
                for shape in shapes.tolist():
                    config = with_shape(sizes.layers[reader].config, tuple(shape))
                    inputs.add(config.cin)
                    outputs.add(config.cout)
    return counts
