"""The integer part of a file's work in TensorRT, which follows the file: no runtime decides otherwise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import onnx

from edgecr.exporters.integers import IntegerWork
from edgecr.exporters.onnx.coverage import divided
from edgecr.exporters.onnx.names import layer_name
from edgecr.predictors.onnx_file import read_onnx

_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_FUSED = (*_LAYERS, "Add")
"""Readers that take integers, or whose maker takes them as its second addend."""


def integer_work(path: Path) -> IntegerWork | None:
    """The layers whose input and weight are both rounded; None for a file of floats."""
    graph = read_onnx(path).graph
    makers = {name: node for node in graph.node for name in node.output}
    if not any(node.op_type == "QuantizeLinear" for node in graph.node):
        return None
    layers = rounded_layers(graph, makers)
    readers = {name: node.op_type for node in graph.node for name in node.input if node.op_type in _FUSED}
    left = sum(node.op_type == "DequantizeLinear" and node.output[0] not in readers for node in graph.node)
    macs, every, elsewhere = divided(path, Counter(_layer(node, makers) for node in layers))
    return IntegerWork(macs, every, elsewhere, pairs=left, kernels="TensorRT", saturates=False)


def rounded_layers(graph: onnx.GraphProto, makers: Mapping[str, onnx.NodeProto]) -> list[onnx.NodeProto]:
    """The layers of a graph whose input and weight are both rounded; ``makers`` are the nodes by their outputs."""
    return [node for node in graph.node if node.op_type in _LAYERS and _is_rounded(node, makers)]


def _is_rounded(node: onnx.NodeProto, makers: Mapping[str, onnx.NodeProto]) -> bool:
    return all(name in makers and makers[name].op_type == "DequantizeLinear" for name in node.input[:2])


def _layer(node: onnx.NodeProto, makers: dict[str, onnx.NodeProto]) -> str:
    """The name of a rounded layer: that of the tensor that its weight is made from."""
    name = node.input[1]
    while name in makers:
        name = makers[name].input[0]
    return layer_name(name)
