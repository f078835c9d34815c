"""The layers of an OpenVINO model: its operators that multiply activations by stored weights."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecr.core.errors import UnsupportedModel
from edgecr.predictors.openvino_file import LAYERS
from edgecr.surgery.counts import LayerCount

CONVOLUTIONS = {
    "Convolution": "conv",
    "BinaryConvolution": "conv",
    "GroupConvolution": "conv",
    "ConvolutionBackpropData": "conv_transpose",
    "GroupConvolutionBackpropData": "conv_transpose",
}
BITS = "u1"
"""The element type of weights that are signs alone."""
KINDS = (*CONVOLUTIONS, "MatMul")
_AGAIN = "#"
"""Stands between the name of a layer and the number of its use."""


@dataclass(frozen=True)
class GraphLayer:
    """One use of a layer: its operator, its cost for one image, and its weights with axes as in PyTorch."""

    operator: Any
    count: LayerCount
    weights: np.ndarray


def for_one_image(model: Any) -> Any:
    """The model with the shapes that it has for one image."""
    port = model.inputs[0]
    _, *rest = port.partial_shape
    model.reshape({port: [1, *rest]})
    return model


def layers_of(model: Any) -> list[GraphLayer]:
    """The layers of a model of known shapes, in the order that the file tells, else in that of the graph."""
    found = list(_layers(model))
    told = json.loads(model.get_rt_info(list(LAYERS)).astype(str)) if model.has_rt_info(list(LAYERS)) else []
    places = {name: number for number, name in enumerate(told)}
    return sorted(found, key=lambda layer: places.get(layer.operator.get_friendly_name(), len(places)))


def use_of(layer: str, number: int) -> str:
    """The name of an operator that is one use of a layer, the first one being 0."""
    return f"{layer}{_AGAIN}{number + 1}" if number else layer


def layer_of(use: str) -> str:
    """The name of the layer that an operator of this name is a use of."""
    return use.partition(_AGAIN)[0]


def stored(port: Any) -> Any:
    """The numbers that an input follows from alone, as an array, rounded ones times their scale; None for others."""
    node = port.get_source_output().get_node()
    kind = node.get_type_name()
    if kind == "Constant":
        return _signs(node) if node.get_element_type().get_type_name() == BITS else np.asarray(node.data)
    first = stored(node.input(0)) if kind in _PASS_ON and node.get_input_size() else None
    if first is None:
        return None
    if kind in ("Convert", "FakeQuantize"):  # what rounds weights leaves the zeros among them
        return first.astype(np.float32) if kind == "Convert" else first
    second = stored(node.input(1))
    if second is None:
        return None
    if kind == "Reshape":
        return first.reshape(tuple(node.output(0).shape))
    if kind == "Transpose":
        return first.transpose(second)
    return first * second if kind == "Multiply" else first - second


def integers(port: Any) -> np.ndarray | None:
    """The int8 numbers that the weights at an input are stored as; None where they are no such."""
    node = port.get_source_output().get_node()
    while node.get_type_name() in _PASS_ON:
        node = node.input(0).get_source_output().get_node()
    rounded = node.get_type_name() == "Constant" and node.get_element_type().get_type_name() == "i8"
    return np.asarray(node.data) if rounded else None


_PASS_ON = ("Convert", "FakeQuantize", "Multiply", "Reshape", "Subtract", "Transpose")


def _signs(constant: Any) -> np.ndarray:
    """The signs that a constant holds in a bit each."""
    shape = tuple(constant.get_output_shape(0))
    bits = np.unpackbits(np.asarray(constant.data), count=math.prod(shape), bitorder="little")
    signs: np.ndarray = bits.astype(np.float32) * 2 - 1
    return signs.reshape(shape)


def _layers(model: Any) -> Iterator[GraphLayer]:
    for operator in model.get_ordered_ops():
        kind = operator.get_type_name()
        if kind in CONVOLUTIONS and (weights := stored(operator.input(1))) is not None:
            yield _convolution(operator, weights)
        elif kind == "MatMul":
            yield from _linear(operator)


def _convolution(operator: Any, weights: np.ndarray) -> GraphLayer:
    kind = CONVOLUTIONS[operator.get_type_name()]
    groups = 1
    if operator.get_type_name().startswith("Group"):
        groups = weights.shape[0]
        weights = weights.reshape(-1, *weights.shape[2:])
    port = operator.input(0) if kind == "conv_transpose" else operator.output(0)  # a transposed one works on its input
    return _counted(operator, kind, weights, groups, math.prod(_shape(operator, port)[2:]))


def _linear(operator: Any) -> Iterator[GraphLayer]:
    left, right = (stored(operator.input(place)) for place in (0, 1))
    if (left is None) == (right is None):
        return
    turns = operator.get_attributes()
    if right is not None:
        weights = right if turns["transpose_b"] else right.swapaxes(-1, -2)
    else:
        weights = left.swapaxes(-1, -2) if turns["transpose_a"] else left
    *batch, outputs, _ = weights.shape
    produced = math.prod(_shape(operator, operator.output(0)))
    yield _counted(operator, "linear", weights, 1, produced // (outputs * math.prod(batch)))


def _counted(operator: Any, kind: str, weights: np.ndarray, groups: int, positions: int) -> GraphLayer:
    name = layer_of(operator.get_friendly_name())
    cost = math.prod(weights.shape) * positions
    return GraphLayer(operator, LayerCount(name, kind, tuple(weights.shape), groups, positions, cost), weights)


def _shape(operator: Any, port: Any) -> tuple[int, ...]:
    shape = port.get_partial_shape()
    if shape.is_dynamic:
        raise UnsupportedModel(
            f"The shape at {operator.get_type_name()} {operator.get_friendly_name()!r} cannot be inferred, so its "
            "work cannot be counted; export the model with a fixed image size."
        )
    return tuple(shape.to_shape())
