"""From an ONNX file in float32 to one in float16: half the size; inputs and outputs stay as they are.

What float16 cannot hold stays in float32, between conversions: values beyond its range, and operators that add up
powers of many numbers. Scales of roundings that are too small for it, as those of dead channels, become larger.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from edgecr.core.errors import UnsupportedModel
from edgecr.exporters.onnx.names import place_of

_WHOLE = {"Resize": (1, 2)}
"""Inputs that must stay float32 in every precision: regions and scales."""
_SUMS = frozenset(f"Reduce{word}" for word in ("L1", "L2", "LogSum", "LogSumExp", "Prod", "Sum", "SumSquare"))
_SENSITIVE = _SUMS | {"CumSum", "Exp", "InstanceNormalization", "LayerNormalization", "LogSoftmax", "Pow", "Softplus"}
"""Operators whose inner sums and powers may leave the range of float16."""
_ROUNDING = ("QuantizeLinear", "DequantizeLinear")
LARGEST = float(np.finfo(np.float16).max)
"""The largest number of float16."""
_NAMES = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16"}


def kept_whole(model: onnx.ModelProto, beyond: Mapping[str, float]) -> dict[str, str]:
    """The nodes that stay in float32, by their first output, and the reason; ``beyond`` are values beyond float16."""
    sums = {
        node.output[0]: f"{node.op_type} adds up what float16 may not hold"
        for node in model.graph.node
        if node.op_type in _SENSITIVE
    }
    return sums | out_of_range(model, beyond)


def out_of_range(model: onnx.ModelProto, beyond: Mapping[str, float]) -> dict[str, str]:
    """The nodes that make or read values beyond float16, by their first output, in words."""
    found = {}
    for node in model.graph.node:
        for name in (*node.input, *node.output):
            if name in beyond:
                found[node.output[0]] = (
                    f"{place_of(node)} has values up to {beyond[name]:.3g}; float16 ends at {LARGEST:.0f}"
                )
    return found


def halved(model: onnx.ModelProto, whole: Collection[str] = ()) -> onnx.ModelProto:
    """The same model with weights and arithmetic in float16, but for the nodes whose first output is in ``whole``."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    nodes = _Halving(made, whole).nodes()
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return made


class _Halving:
    """The nodes of a model one by one, and which values are in float16 so far."""

    def __init__(self, model: onnx.ModelProto, whole: Collection[str]) -> None:
        self._graph, self._whole = model.graph, whole
        self._nodes: list[onnx.NodeProto] = []
        _store_constants(model.graph)
        _raise_scales(model.graph)
        inferred = shape_inference.infer_shapes(model).graph
        self._floats = {
            value.name
            for value in (*inferred.input, *inferred.value_info, *inferred.output)
            if value.type.tensor_type.elem_type == TensorProto.FLOAT
        }
        self._stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self._given = list(model.graph.node)
        self._half = set[str]()
        self._converted = set[str]()
        self._store_halves()

    def nodes(self) -> list[onnx.NodeProto]:
        """All nodes in their precision, with conversions where it changes."""
        for node in self._given:
            for place, name in enumerate(node.input):
                node.input[place] = self._read(name, self._wanted(node, place))
            if node.output[0] not in self._whole:
                self._halve_attributes(node)
                self._half |= self._floats.intersection(node.output)
            self._nodes.append(node)
        for output in self._graph.output:
            if output.name in self._half:
                self._end_in_float32(output.name)
        stored = {name for name, tensor in self._stored.items() if tensor.data_type == TensorProto.FLOAT16}
        for value in self._graph.value_info:
            if value.name in self._half | stored:
                value.type.tensor_type.elem_type = TensorProto.FLOAT16
        return self._nodes

    def _wanted(self, node: onnx.NodeProto, place: int) -> int:
        whole = node.output[0] in self._whole or place in _WHOLE.get(node.op_type, ())
        return int(TensorProto.FLOAT if whole else TensorProto.FLOAT16)

    def _store_halves(self) -> None:
        """Rounds the stored tensors; one that is read in both precisions is stored in both."""
        readers: dict[str, set[int]] = {}
        for node in self._given:
            for place, name in enumerate(node.input):
                if name in self._stored and self._stored[name].data_type == TensorProto.FLOAT:
                    readers.setdefault(name, set()).add(self._wanted(node, place))
        for name, read_as in readers.items():
            if TensorProto.FLOAT16 not in read_as:
                continue
            values = _half(name, numpy_helper.to_array(self._stored[name]))
            if len(read_as) == 1:
                self._stored[name].CopyFrom(numpy_helper.from_array(values, name))
            else:
                self._graph.initializer.append(numpy_helper.from_array(values, f"{name}_float16"))
                self._stored[f"{name}_float16"] = self._graph.initializer[-1]

    def _read(self, name: str, wanted: int) -> str:
        """The name under which a node finds an input in the precision that it wants."""
        converted = f"{name}_{_NAMES[wanted]}"
        if name in self._stored:
            return converted if wanted == TensorProto.FLOAT16 and converted in self._stored else name
        if name not in self._floats or (name in self._half) == (wanted == TensorProto.FLOAT16):
            return name
        if converted not in self._converted:
            self._converted.add(converted)
            self._nodes.append(helper.make_node("Cast", [name], [converted], converted, to=wanted))
        return converted

    def _halve_attributes(self, node: onnx.NodeProto) -> None:
        for item in node.attribute:
            if node.op_type == "Cast" and item.name == "to" and item.i == TensorProto.FLOAT:
                item.i = TensorProto.FLOAT16
            if item.HasField("t") and item.t.data_type == TensorProto.FLOAT:
                values = _half(node.output[0], numpy_helper.to_array(item.t))
                item.t.CopyFrom(numpy_helper.from_array(values, item.t.name))

    def _end_in_float32(self, name: str) -> None:
        """Gives an output of the file its own type again."""
        half = f"{name}_float16"
        for node in self._nodes:
            for names in (node.input, node.output):
                for place, each in enumerate(names):
                    if each == name:
                        names[place] = half
        self._nodes.append(helper.make_node("Cast", [half], [name], half, to=TensorProto.FLOAT))


def _store_constants(graph: onnx.GraphProto) -> None:
    """Makes stored tensors of the constants among the nodes."""
    nodes = []
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            graph.initializer.append(node.attribute[0].t)
            graph.initializer[-1].name = node.output[0]
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _raise_scales(graph: onnx.GraphProto) -> None:
    """Makes scales larger that float16 holds coarsely or not at all, and the stored integers under them smaller."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    shares: dict[str, np.ndarray] = {}
    for name in {node.input[1] for node in graph.node if node.op_type in _ROUNDING}:
        if name in stored and stored[name].data_type == TensorProto.FLOAT:
            given = numpy_helper.to_array(stored[name])
            raised = _held_by_half(given)
            if (raised != given).any():
                shares[name] = given / raised
                stored[name].CopyFrom(numpy_helper.from_array(raised, name))
    weights = {
        node.input[0]: node
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.input[1] in shares and node.input[0] in stored
    }
    for name, node in weights.items():
        zero = numpy_helper.to_array(stored[node.input[2]]) if len(node.input) > 2 else np.zeros((), np.int8)
        axis = next((item.i for item in node.attribute if item.name == "axis"), 1)
        integers = numpy_helper.to_array(stored[name])
        share, shift = (_along(axis, each, integers.ndim) for each in (shares[node.input[1]], zero.astype(np.float64)))
        fewer = np.rint((integers - shift) * share) + shift
        stored[name].CopyFrom(numpy_helper.from_array(fewer.astype(integers.dtype), name))


def _held_by_half(scales: np.ndarray) -> np.ndarray:
    """The scales, with each that is below the normal numbers of float16 raised to the next number that it has."""
    numbers = np.finfo(np.float16)
    near = scales.astype(np.float16)
    above = np.where(near < scales, np.nextafter(near, np.float16(1)), near)
    small = (scales >= 0) & (scales < numbers.tiny)
    return np.where(small, np.maximum(above, numbers.smallest_subnormal), scales).astype(np.float32)


def _along(axis: int, values: np.ndarray, rank: int) -> np.ndarray:
    """One number, or one for each place along an axis, in a shape that goes with tensors of a rank."""
    return values if values.size == 1 else np.expand_dims(values, [each for each in range(rank) if each != axis % rank])


def _half(name: str, values: np.ndarray) -> np.ndarray:
    """Numbers that float16 can hold; UnsupportedModel for others."""
    largest = float(np.abs(values).max(initial=0.0))
    if largest > LARGEST:
        raise UnsupportedModel(
            f"{name} holds {largest:.3g}, but float16 ends at {LARGEST:.0f}; export this model in float32."
        )
    return np.asarray(values, np.float16)


def beyond_half(ranges: Mapping[str, tuple[float, float]]) -> Iterator[tuple[str, float]]:
    """The values whose largest magnitude float16 cannot hold, with that magnitude."""
    for name, (low, high) in ranges.items():
        if (largest := max(-low, high)) > LARGEST:
            yield name, largest
