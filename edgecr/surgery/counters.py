"""Parameters, multiply-accumulates and size, counted by watching one forward pass operator by operator.

Convolutions and linear layers are counted, whichever module or function calls them: an operator is a layer
when one of its operands follows from parameters alone. Products of two activations, as in attention, are not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from edgecr.core.errors import UnsupportedModel
from edgecr.surgery.counts import Count, LayerCount

_aten = torch.ops.aten
_CONVOLUTIONS = (_aten.convolution, _aten._convolution)
_PRODUCTS = (_aten.mm, _aten.addmm, _aten.bmm, _aten.baddbmm)


def count(module: nn.Module, input_shape: Sequence[int]) -> Count:
    """Counts a module on one input of shape (channels, height, width); the module is left as it was.

    ``params`` are parameters only; ``size_bytes`` is what the saved tensors take, buffers included.
    """
    watcher = _Watcher(module)
    image = torch.zeros(1, *input_shape, device=_device(module))
    with _evaluating(module), torch.no_grad(), watcher:
        try:
            module(image)
        except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError) as error:
            shape = "x".join(str(size) for size in input_shape)
            raise UnsupportedModel(f"The model does not run on one input of {shape}: {error}") from error
    return Count(
        params=sum(parameter.numel() for parameter in module.parameters()),
        macs=sum(layer.macs for layer in watcher.layers),
        size_bytes=_size(module),
        layers=tuple(watcher.layers),
    )


class _Watcher(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes convolutions and products with weights; knows which tensors follow from parameters alone."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.layers: list[LayerCount] = []
        self._constants = {id(tensor): "" for tensor in module.buffers()}
        self._constants |= {id(tensor): name for name, tensor in module.named_parameters()}
        self._alive: list[Tensor] = []  # an id is only unique while its tensor lives

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs one operator and notes what it was."""
        result = func(*args, **(kwargs or {}))
        operator = func.overloadpacket
        if operator in _CONVOLUTIONS:
            self._convolution(args, result)
        elif operator in _PRODUCTS:
            self._product(*args[-2:])
        elif operator is _aten.mkldnn_rnn_layer:  # steps of an LSTM on CPUs
            for weight in args[1:3]:
                self._note(weight, "linear", weight.shape, 1, args[0].shape[0] * args[0].shape[1])
        self._follow((args, kwargs), result)
        return result

    def _follow(self, inputs: Any, result: Any) -> None:
        """Marks results computed from constants alone as constants, named after the first parameter among them."""
        tensors = [leaf for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)]
        constant = bool(tensors) and all(id(tensor) in self._constants for tensor in tensors)
        names = [self._constants[id(tensor)] for tensor in tensors] if constant else []
        for leaf in tree_leaves(result):
            if not isinstance(leaf, Tensor) or any(leaf is tensor for tensor in tensors):
                continue
            self._constants.pop(id(leaf), None)
            if constant:
                self._alive.append(leaf)
                self._constants[id(leaf)] = next(filter(None, names), "")

    def _note(self, weight: Tensor, kind: str, shape: Sequence[int], groups: int, positions: int) -> None:
        name = self._constants.get(id(weight), "").removesuffix(".weight")
        macs = math.prod(shape) * positions
        self.layers.append(LayerCount(name, kind, tuple(shape), groups, positions, macs))

    def _convolution(self, args: Any, result: Tensor) -> None:
        image, weight, transposed, groups = args[0], args[1], args[6], args[8]
        places = image if transposed else result  # a transposed one applies its weights once per input place
        kind = "conv_transpose" if transposed else "conv"
        self._note(weight, kind, weight.shape, groups, places.shape[0] * math.prod(places.shape[2:]))

    def _product(self, left: Tensor, right: Tensor) -> None:
        known = [id(operand) in self._constants for operand in (left, right)]
        if known == [False, True]:
            *batch, inputs, outputs = right.shape
            self._note(right, "linear", (*batch, outputs, inputs), 1, left.shape[-2])
        elif known == [True, False]:
            self._note(left, "linear", left.shape, 1, right.shape[-1])


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Every sub-module in evaluation mode, with attention spelled out in its operators; undone afterwards."""
    modes = {part: part.training for part in module.modules()}
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    module.eval()
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for part, training in modes.items():
            part.training = training


def _device(module: nn.Module) -> torch.device:
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


def _size(module: nn.Module) -> int:
    tensors = {id(tensor): tensor for tensor in module.state_dict(keep_vars=True).values()}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
