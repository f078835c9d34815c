"""Counting any ONNX file: the layers that hold weights, their parameters and their multiply-accumulates."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, shape_inference

from edgecr.core.errors import UnsupportedModel
from edgecr.exporters.onnx.compact import read_plain
from edgecr.exporters.onnx.names import layer_name
from edgecr.exporters.zeros import zero_channels_of
from edgecr.surgery.counts import Count, LayerCount

_KINDS = {"Conv": "conv", "ConvTranspose": "conv_transpose", "Gemm": "linear", "MatMul": "linear"}
_KINDS |= {"QLinearConv": "conv", "QLinearMatMul": "linear"}
_CONVOLUTIONS = ("Conv", "ConvTranspose", "QLinearConv")
_WEIGHT = {"QLinearConv": 3, "QLinearMatMul": 3}
"""The place of the weight where it is not the second input; its zero point stands two behind it."""
_PASS_ON = {"Identity", "Cast", "QuantizeLinear", "DequantizeLinear", "Transpose"}
_ROUNDED = {"QuantizeLinear": (1, 2), "DequantizeLinear": (1, 2), "QLinearConv": (1, 2, 4, 5, 6, 7)}
_ROUNDED |= {"QLinearMatMul": (1, 2, 4, 5, 6, 7)}
"""Inputs that are scales and zero points: no parameters of the network."""
_FLOATS = {
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.DOUBLE,
    onnx.TensorProto.BFLOAT16,
}

Shape = tuple[int, ...]


@dataclass(frozen=True)
class _Constant:
    """A stored tensor as a node sees it: the tensor and the order of its axes."""

    tensor: onnx.TensorProto
    axes: Shape
    zero: int = 0
    """The stored number that stands for zero."""

    @property
    def shape(self) -> Shape:
        return tuple(self.tensor.dims[axis] for axis in self.axes)

    @property
    def values(self) -> np.ndarray:
        """The numbers in this order of axes, so that zero is zero; of rounded ones in steps of their scale."""
        stored: np.ndarray = numpy_helper.to_array(self.tensor).transpose(self.axes)
        return stored.astype(np.int32) - self.zero if self.zero else stored


@dataclass(frozen=True)
class _Layer:
    """One counted node and the weight it reads; ``turned`` when its axes are (in, out)."""

    count: LayerCount
    weight: _Constant
    output: str
    turned: bool = False

    @property
    def values(self) -> np.ndarray:
        """The weights with axes as in PyTorch."""
        return self.weight.values.swapaxes(-1, -2) if self.turned else self.weight.values


def count_onnx(path: Path) -> Count:
    """Counts the cost of an ONNX file for one image; ``size_bytes`` is the size of the file itself."""
    model = read_plain(path)
    layers = tuple(layer.count for layer in _layers(model))
    return Count(
        params=sum(math.prod(tensor.dims) for tensor in _parameters(model)),
        macs=sum(layer.macs for layer in layers),
        size_bytes=path.stat().st_size,
        layers=layers,
    )


def _parameters(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """The tensors of the network itself: floats, and integers that stand for floats, without scales and zero points."""
    no_parameters, rounded = set[str](), set[str]()
    for node in model.graph.node:
        places = _ROUNDED.get(node.op_type, ())
        no_parameters.update(name for place, name in enumerate(node.input) if place in places)
        if node.op_type in _ROUNDED and node.op_type != "QuantizeLinear":
            rounded.update(name for place, name in enumerate(node.input) if place not in places)
    for tensor in model.graph.initializer:
        if tensor.name in rounded or (tensor.data_type in _FLOATS and tensor.name not in no_parameters):
            yield tensor


def zero_channels(path: Path) -> dict[str, int]:
    """Counts the output channels of each layer that hold only zero weights: masked, but still in the file."""
    stored = [layer for layer in _layers(read_plain(path)) if not _is_elsewhere(layer.weight.tensor)]
    found = {layer.count.name: zero_channels_of(layer.count, layer.values) for layer in stored}
    return {name: zeros for name, zeros in found.items() if zeros}


def layer_weights(path: Path) -> Iterator[np.ndarray]:
    """The weights of each counted layer, with axes as in PyTorch; empty where the data is external."""
    for layer in _layers(read_plain(path)):
        if _is_elsewhere(layer.weight.tensor):
            yield np.empty(0)
            continue
        yield layer.values


def weights_of_nodes(model: onnx.ModelProto) -> Iterator[tuple[str, str]]:
    """The name of the weight of each counted layer, and the name of the layer's output."""
    return ((layer.weight.tensor.name, layer.output) for layer in _layers(model))


def _layers(model: onnx.ModelProto) -> Iterator[_Layer]:
    """The nodes that multiply activations by stored weights, in the order in which they run."""
    shapes = _shapes_for_one_image(model)
    constants = {tensor.name: _Constant(tensor, tuple(range(len(tensor.dims)))) for tensor in model.graph.initializer}
    for node in model.graph.node:
        _refuse_hidden_layers(node)
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensor = node.attribute[0].t
            constants[node.output[0]] = _Constant(_named(tensor, node.output[0]), tuple(range(len(tensor.dims))))
        elif node.op_type in _PASS_ON and node.input[0] in constants:
            constants[node.output[0]] = _passed_on(node, constants)
        elif node.op_type in _KINDS:
            yield from _layer(node, constants, shapes)


def _layer(node: onnx.NodeProto, constants: dict[str, _Constant], shapes: dict[str, Shape]) -> Iterator[_Layer]:
    place = _WEIGHT.get(node.op_type, 1)
    left, right = constants.get(node.input[0]), constants.get(node.input[place])
    if right is not None and place > 1:
        right = replace(right, zero=_zero(node, place + 2, constants))
    if node.op_type in _CONVOLUTIONS and right is not None:
        yield _convolution(node, right, shapes)
    elif left is None and right is not None:
        turned = node.op_type != "Gemm" or not _attribute(node, "transB", 0)
        yield _linear(node, right, turned, shapes)
    elif left is not None and right is None:
        yield _linear(node, left, bool(_attribute(node, "transA", 0)), shapes)


def _convolution(node: onnx.NodeProto, weight: _Constant, shapes: dict[str, Shape]) -> _Layer:
    places = node.input[0] if node.op_type == "ConvTranspose" else node.output[0]  # a transposed one works on its input
    positions = math.prod(_shape(node, places, shapes)[2:])
    return _Layer(_counted(node, weight.shape, positions, weight, _attribute(node, "group", 1)), weight, node.output[0])


def _linear(node: onnx.NodeProto, weight: _Constant, turned: bool, shapes: dict[str, Shape]) -> _Layer:
    *batch, rows, columns = weight.shape
    outputs, inputs = (columns, rows) if turned else (rows, columns)
    produced = math.prod(_shape(node, node.output[0], shapes))
    positions = produced // (outputs * math.prod(batch))
    return _Layer(_counted(node, (*batch, outputs, inputs), positions, weight), weight, node.output[0], turned)


def _counted(node: onnx.NodeProto, shape: Shape, positions: int, weight: _Constant, groups: int = 1) -> LayerCount:
    name = layer_name(weight.tensor.name)
    return LayerCount(name, _KINDS[node.op_type], shape, groups, positions, math.prod(shape) * positions)


def _shapes_for_one_image(model: onnx.ModelProto) -> dict[str, Shape]:
    """The shapes of all values at batch 1, as far as they can be inferred."""
    single = onnx.ModelProto()
    single.CopyFrom(model)
    graph = single.graph
    stored = {tensor.name for tensor in graph.initializer}
    firsts = [_dimensions(value)[0] for value in graph.input if value.name not in stored and _dimensions(value)]
    symbols = {first.dim_param for first in firsts if first.dim_param}
    for first in firsts:
        first.dim_value = 1
    for dimension in (dim for value in (*graph.value_info, *graph.output) for dim in _dimensions(value)):
        if dimension.dim_param in symbols:
            dimension.dim_value = 1
    inferred = shape_inference.infer_shapes(single, data_prop=True).graph
    return {
        value.name: tuple(dim.dim_value for dim in _dimensions(value))
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
    }


def _dimensions(value: onnx.ValueInfoProto) -> Sequence[Any]:
    dimensions: Sequence[Any] = value.type.tensor_type.shape.dim
    return dimensions


def _shape(node: onnx.NodeProto, value: str, shapes: dict[str, Shape]) -> Shape:
    shape = shapes.get(value, ())
    if not shape or 0 in shape:
        raise UnsupportedModel(
            f"The shape of {value!r} at {node.op_type} {node.name!r} cannot be inferred, so its "
            "work cannot be counted; export the model with a fixed image size."
        )
    return shape


def _passed_on(node: onnx.NodeProto, constants: dict[str, _Constant]) -> _Constant:
    constant = constants[node.input[0]]
    if node.op_type == "DequantizeLinear":
        return replace(constant, zero=_zero(node, 2, constants))
    if node.op_type != "Transpose":
        return constant
    order = next((item.ints for item in node.attribute if item.name == "perm"), reversed(range(len(constant.axes))))
    return replace(constant, axes=tuple(constant.axes[axis] for axis in order))


def _zero(node: onnx.NodeProto, place: int, constants: dict[str, _Constant]) -> int:
    """The zero point at an input; the first one where channels have their own, which are all alike in practice.

    One outside the file counts as 0: weights beside a file are not read either.
    """
    given = constants.get(node.input[place]) if len(node.input) > place else None
    if given is None or _is_elsewhere(given.tensor):
        return 0
    return int(np.ravel(numpy_helper.to_array(given.tensor))[0])


def _refuse_hidden_layers(node: onnx.NodeProto) -> None:
    for attribute in node.attribute:
        if any(inner.op_type in _KINDS for inner in attribute.g.node):
            raise UnsupportedModel(
                f"{node.op_type} {node.name!r} hides layers in a branch or loop; their work "
                "depends on the input and cannot be counted."
            )


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((int(item.i) for item in node.attribute if item.name == name), default)


def _named(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    named = onnx.TensorProto()
    named.CopyFrom(tensor)
    named.name = name
    return named


def _is_elsewhere(tensor: onnx.TensorProto) -> bool:
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)
