"""Layers in fewer bits, as they stand inside a rounded network: integers come in and go out."""

from __future__ import annotations

import onnx

from edgecr.exporters.graph_target import GraphTarget
from edgecr.exporters.onnx.declaration import Quantise
from edgecr.exporters.onnx.half import halved
from edgecr.exporters.onnx.quantise import rounded_between
from edgecr.exporters.onnx.write import silence

_LARGEST = 4.0
"""Limit of all values of a layer; those that come in are not negative, as behind a ReLU."""


def rounded_layer(model: onnx.ModelProto, target: GraphTarget) -> onnx.ModelProto:
    """A layer of a file in float32, rounded as the files of a target are.

    Layers of OpenVINO's 8-bit files are written as ONNX: OpenVINO makes the same of them as of NNCF's, integers
    without an offset that are multiplied by weights with a scale for each channel.
    """
    if target.precision == "fp16":
        return halved(model)
    options = target.quantise if isinstance(target.quantise, Quantise) else Quantise()
    names = [*model.graph.input, *model.graph.output, *(model.graph.node[0].output)]
    first, last, between = names[0].name, names[1].name, names[2]
    limits = {first: (0.0, _LARGEST), between: (-_LARGEST, _LARGEST), last: (0.0, _LARGEST)}
    with silence():
        made = rounded_between(model, options, limits)
    return halved(made) if options.floats == "fp16" else _between_integers(made)


def _between_integers(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without the conversions at its ends: inside a network its neighbours are integers, too."""
    graph = model.graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for node in list(graph.node):
        if node.op_type == "QuantizeLinear" and node.input[0] == graph.input[0].name:
            _move_end(graph.input[0], node.output[0], types[node.input[2]])
            graph.node.remove(node)
        elif node.op_type == "DequantizeLinear" and node.output[0] == graph.output[0].name:
            _move_end(graph.output[0], node.input[0], types[node.input[2]])
            graph.node.remove(node)
    del graph.value_info[:]
    return model


def _move_end(value: onnx.ValueInfoProto, name: str, kind: int) -> None:
    value.name = name
    value.type.tensor_type.elem_type = kind
