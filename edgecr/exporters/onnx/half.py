"""From an ONNX file in float32 to one in float16: half the size; inputs and outputs stay as they are."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from edgecr.core.errors import UnsupportedModel

_WHOLE = {"Resize": (1, 2)}
"""Inputs that must stay float32 in every precision: regions and scales."""
_LARGEST = float(np.finfo(np.float16).max)


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with weights and arithmetic in float16."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    whole = {
        name for node in graph.node for place in _WHOLE.get(node.op_type, ()) for name in node.input[place : place + 1]
    }
    for tensor in _constants(graph, whole):
        _halve(tensor)
    for node in graph.node:
        for item in node.attribute:
            if node.op_type == "Cast" and item.name == "to" and item.i == TensorProto.FLOAT:
                item.i = TensorProto.FLOAT16
    for value in graph.value_info:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    _keep_inputs(graph)
    _keep_outputs(graph)
    return made


def _constants(graph: onnx.GraphProto, whole: set[str]) -> Iterator[TensorProto]:
    yield from (tensor for tensor in graph.initializer if tensor.name not in whole)
    for node in graph.node:
        if not whole.intersection(node.output):
            yield from (item.t for item in node.attribute if item.HasField("t"))


def _halve(tensor: TensorProto) -> None:
    if tensor.data_type != TensorProto.FLOAT:
        return
    values = numpy_helper.to_array(tensor)
    largest = float(np.abs(values).max(initial=0.0))
    if largest > _LARGEST:
        raise UnsupportedModel(
            f"{tensor.name} holds {largest:.3g}, but float16 ends at {_LARGEST:.0f}; export this model in float32."
        )
    tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), tensor.name))


def _keep_inputs(graph: onnx.GraphProto) -> None:
    stored = {tensor.name for tensor in graph.initializer}
    floats = [
        one for one in graph.input if one.type.tensor_type.elem_type == TensorProto.FLOAT and one.name not in stored
    ]
    for value in floats:
        half = f"{value.name}_float16"
        _rename(graph, value.name, half, of_inputs=True)
        graph.node.insert(0, onnx.helper.make_node("Cast", [value.name], [half], half, to=TensorProto.FLOAT16))


def _keep_outputs(graph: onnx.GraphProto) -> None:
    for value in graph.output:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            half = f"{value.name}_float16"
            _rename(graph, value.name, half, of_inputs=True)
            _rename(graph, value.name, half, of_inputs=False)
            graph.node.append(onnx.helper.make_node("Cast", [half], [value.name], half, to=TensorProto.FLOAT))


def _rename(graph: onnx.GraphProto, old: str, new: str, *, of_inputs: bool) -> None:
    for node in graph.node:
        names = node.input if of_inputs else node.output
        for place, name in enumerate(names):
            if name == old:
                names[place] = new
