"""The rules that TensorRT has for 8-bit integers in a file: signed, symmetric, with known scales, and paired."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto

from edgecr.exporters.onnx.names import place_of
from edgecr.exporters.tensorrt.scopes import Scope
from edgecr.exporters.tensorrt.versions import Version

_PAIR = ("QuantizeLinear", "DequantizeLinear")
_AXES = {"Conv": 0, "ConvTranspose": 1, "MatMul": 1}
"""The axis of a weight's output channels."""


def rounding_problems(scope: Scope, version: Version) -> Iterator[str]:
    """Roundings of one graph that a version refuses, named by place."""
    for node in scope.graph.node:
        if node.op_type in _PAIR:
            yield from _scale(node, scope)
            yield from _zero(node, scope)
            yield from _source(node, scope, version)
        if node.op_type == "QuantizeLinear" and any(
            reader.op_type != "DequantizeLinear" for reader in scope.readers.get(node.output[0], [])
        ):
            yield f"{place_of(node)} has a reader that takes integers; every one must be turned back into floats"
        if node.op_type == "DequantizeLinear":
            yield from _channels(node, scope)


def rounding_remarks(scope: Scope) -> Iterator[str]:
    """Rounded grouped convolutions, which run once for each group."""
    for node in scope.graph.node:
        groups = next((item.i for item in node.attribute if item.name == "group"), 1)
        weight = scope.makers.get(node.input[1]) if node.op_type == "Conv" else None
        if groups > 1 and weight is not None and weight.op_type == "DequantizeLinear":
            yield f"{place_of(node)} has {groups} groups in 8-bit integers, which TensorRT may run one by one"


def _scale(node: onnx.NodeProto, scope: Scope) -> Iterator[str]:
    if node.input[1] not in scope.stored:
        yield f"{place_of(node)} computes its scale, which must be stored"
    elif not (scope.numbers(node.input[1]) > 0).all():
        yield f"{place_of(node)} has a scale that is not positive"


def _zero(node: onnx.NodeProto, scope: Scope) -> Iterator[str]:
    zero = scope.stored.get(node.input[2]) if len(node.input) > 2 else None
    if zero is None:
        yield f"{place_of(node)} has no stored zero point"
        return
    kind = TensorProto.DataType.Name(zero.data_type)
    if kind == "INT32":
        yield f"{place_of(node)} has 32-bit integers, as a rounded bias has; biases stay in floats"
    elif kind != "INT8":
        yield f"{place_of(node)} has integers of type {kind.lower()}; only int8 is taken"
    elif np.any(scope.numbers(node.input[2])):
        yield f"{place_of(node)} has a zero point that is not 0: the rounding is not symmetric"


def _source(node: onnx.NodeProto, scope: Scope, version: Version) -> Iterator[str]:
    """Integers come from a rounding in the file, or from storage where the version reads it."""
    name = node.input[0]
    if node.op_type != "DequantizeLinear":
        return
    if name in scope.stored:
        if not version.int8_weights:
            yield f"{place_of(node)} reads stored integers; weights must be floats that the file rounds"
    elif name not in scope.makers or scope.makers[name].op_type != "QuantizeLinear":
        yield f"{place_of(node)} reads integers that no QuantizeLinear made"


def _channels(node: onnx.NodeProto, scope: Scope) -> Iterator[str]:
    """Scales for channels are for weights alone, along the axis of their output channels."""
    if node.input[1] not in scope.stored or scope.is_one(node.input[1]):
        return
    source = node.input[0]
    while source not in scope.stored and source in scope.makers and scope.makers[source].input:
        source = scope.makers[source].input[0]
    if source not in scope.stored:
        yield f"{place_of(node)} has a scale for each channel of an activation; only weights may"
        return
    rank = max(1, len(scope.stored[source].dims))
    axis = next((int(item.i) for item in node.attribute if item.name == "axis"), 1) % rank
    for reader in scope.readers.get(node.output[0], []):
        wanted = _output_axis(reader)
        if wanted is not None and axis != wanted:
            yield f"{place_of(node)} has scales along axis {axis}; output channels lie along axis {wanted}"


def _output_axis(reader: onnx.NodeProto) -> int | None:
    if reader.op_type == "Gemm":
        return 0 if any(item.name == "transB" and item.i for item in reader.attribute) else 1
    return _AXES.get(reader.op_type)
