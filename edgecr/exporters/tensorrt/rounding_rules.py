"""The rules that TensorRT has for 8-bit integers in a file: signed, symmetric, with known scales, and paired."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from edgecr.exporters.onnx.names import place_of
from edgecr.exporters.tensorrt.versions import Version

_PAIR = ("QuantizeLinear", "DequantizeLinear")
_AXES = {"Conv": 0, "ConvTranspose": 1, "MatMul": 1}
"""The axis of a weight's output channels."""


def rounding_problems(model: onnx.ModelProto, version: Version) -> Iterator[str]:
    """Roundings that a version refuses, named by place."""
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for node in graph.node:
        if node.op_type in _PAIR:
            yield from _scale(node, stored)
            yield from _zero(node, stored)
            yield from _source(node, stored, makers, version)
        if node.op_type == "QuantizeLinear" and any(
            reader.op_type != "DequantizeLinear" for reader in readers.get(node.output[0], [])
        ):
            yield f"{place_of(node)} has a reader that takes integers; every one must be turned back into floats"
        if node.op_type == "DequantizeLinear":
            yield from _channels(node, stored, makers, readers.get(node.output[0], []))


def rounding_remarks(model: onnx.ModelProto) -> Iterator[str]:
    """Rounded grouped convolutions, which run once for each group."""
    makers = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        groups = next((item.i for item in node.attribute if item.name == "group"), 1)
        weight = makers.get(node.input[1]) if node.op_type == "Conv" else None
        if groups > 1 and weight is not None and weight.op_type == "DequantizeLinear":
            yield f"{place_of(node)} has {groups} groups in 8-bit integers, which TensorRT may run one by one"


def _scale(node: onnx.NodeProto, stored: dict[str, TensorProto]) -> Iterator[str]:
    scale = stored.get(node.input[1])
    if scale is None:
        yield f"{place_of(node)} computes its scale from the image"
    elif not (numpy_helper.to_array(scale) > 0).all():
        yield f"{place_of(node)} has a scale that is not positive"


def _zero(node: onnx.NodeProto, stored: dict[str, TensorProto]) -> Iterator[str]:
    zero = stored.get(node.input[2]) if len(node.input) > 2 else None
    if zero is None:
        yield f"{place_of(node)} has no stored zero point"
        return
    kind = TensorProto.DataType.Name(zero.data_type)
    if kind == "INT32":
        yield f"{place_of(node)} has 32-bit integers, as a rounded bias has; biases stay in floats"
    elif kind != "INT8":
        yield f"{place_of(node)} has integers of type {kind.lower()}; only int8 is taken"
    elif np.any(numpy_helper.to_array(zero)):
        yield f"{place_of(node)} has a zero point that is not 0: the rounding is not symmetric"


def _source(
    node: onnx.NodeProto, stored: dict[str, TensorProto], makers: dict[str, onnx.NodeProto], version: Version
) -> Iterator[str]:
    """Integers come from a rounding in the file, or from storage where the version reads it."""
    name = node.input[0]
    if node.op_type != "DequantizeLinear":
        return
    if name in stored:
        if not version.int8_weights:
            yield f"{place_of(node)} reads stored integers; weights must be floats that the file rounds"
    elif name not in makers or makers[name].op_type != "QuantizeLinear":
        yield f"{place_of(node)} reads integers that no QuantizeLinear made"


def _channels(
    node: onnx.NodeProto,
    stored: dict[str, TensorProto],
    makers: dict[str, onnx.NodeProto],
    readers: list[onnx.NodeProto],
) -> Iterator[str]:
    """Scales for channels are for weights alone, along the axis of their output channels."""
    scale = stored.get(node.input[1])
    if scale is None or np.size(numpy_helper.to_array(scale)) == 1:
        return
    source = node.input[0]
    while source in makers:
        source = makers[source].input[0]
    if source not in stored:
        yield f"{place_of(node)} has a scale for each channel of an activation; only weights may"
        return
    axis = next((int(item.i) for item in node.attribute if item.name == "axis"), 1) % len(stored[source].dims)
    for reader in readers:
        wanted = _output_axis(reader)
        if wanted is not None and axis != wanted:
            yield f"{place_of(node)} has scales along axis {axis}; output channels lie along axis {wanted}"


def _output_axis(reader: onnx.NodeProto) -> int | None:
    if reader.op_type == "Gemm":
        return 0 if any(item.name == "transB" and item.i for item in reader.attribute) else 1
    return _AXES.get(reader.op_type)
