"""From an ONNX file of a newer opset to one of an older opset, for boards whose runtime knows no newer one.

Every operator that changed in between has a rule, or is refused by name: nothing is passed on unseen. The result is
checked against the schemas of the older opset, and the caller proves its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from edgecr.core.errors import UnsupportedModel
from edgecr.exporters.onnx.names import place_of
from edgecr.predictors.onnx_file import opset_of

_IR_VERSIONS = ((15, 7), (18, 8))
"""The file version of the first ONNX releases that had an opset below the first number."""

_SAME = """
Add BatchNormalization Constant ConstantOfShape Conv ConvTranspose Div Dropout Elu Equal Flatten GlobalAveragePool
GlobalMaxPool GreaterOrEqual HardSigmoid Identity InstanceNormalization IsNaN LeakyRelu LessOrEqual MaxPool Mul
PRelu Pow Relu Selu Size Softplus Softsign Squeeze Sub Transpose Unsqueeze Where
"""
"""Operators that only learnt further number formats, or an attribute whose default is dropped below."""
_DEFAULTS: dict[str, dict[str, Any]] = {
    "AveragePool": {"dilations": 1},
    "BatchNormalization": {"training_mode": 0},
    "Cast": {"saturate": 1},
    "DequantizeLinear": {"block_size": 0, "output_dtype": 0},
    "QuantizeLinear": {"saturate": 1, "block_size": 0, "output_dtype": 0, "precision": 0},
    "Resize": {"antialias": 0, "keep_aspect_ratio_policy": b"stretch"},
}
"""Attributes that an older opset lacks, with the value that it means; another value cannot be said there."""


def lowered(model: onnx.ModelProto, opset: int, without: Collection[str] = ()) -> onnx.ModelProto:
    """The same model in an opset below 18, or in its own.

    ``without`` names operators that are put into simpler ones.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    nodes = _Lowering(made, opset, frozenset(without)).nodes()
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    if opset < opset_of(model):
        del made.opset_import[:]
        made.opset_import.append(helper.make_opsetid("", opset))
        made.ir_version = next(version for limit, version in _IR_VERSIONS if opset < limit)
    used = {name for node in nodes for name in node.input}
    stored = [tensor for tensor in made.graph.initializer if tensor.name in used]
    del made.graph.initializer[:], made.graph.value_info[:]
    made.graph.initializer.extend(stored)
    return made


class _Lowering:
    """The nodes of a model one by one, and what rules know of the values between them."""

    def __init__(self, model: onnx.ModelProto, opset: int, without: frozenset[str]) -> None:
        self.graph, self.opset, self._without = model.graph, opset, without
        self._source = opset_of(model)
        self._refuse_functions(model)
        inferred = shape_inference.infer_shapes(model, data_prop=True).graph
        self._shapes = {
            value.name: [
                dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim
            ]
            for value in (*inferred.input, *inferred.value_info, *inferred.output)
            if value.type.tensor_type.HasField("shape")
        }
        self._stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self._stored |= {
            node.output[0]: node.attribute[0].t
            for node in model.graph.node
            if node.op_type == "Constant" and node.attribute[0].name == "value"
        }

    def nodes(self) -> list[onnx.NodeProto]:
        """All nodes as the older opset has them."""
        return [made for node in self.graph.node for made in self._lowered(node)]

    def _lowered(self, node: onnx.NodeProto) -> Iterable[onnx.NodeProto]:
        if any(item.HasField("g") or item.graphs for item in node.attribute):
            raise self.refusal(node, "holds a branch or loop")
        if node.op_type not in self._without and self._since(node) <= self.opset:
            return [node]
        for name, usual in _DEFAULTS.get(node.op_type, {}).items():
            self._drop(node, name, usual)
        if node.op_type in RULES:
            return RULES[node.op_type](self, node)
        if node.op_type in _SAME.split() or node.op_type in _DEFAULTS:
            return [node]
        raise self.refusal(node, "has no form there that EdgeCR knows")

    def _since(self, node: onnx.NodeProto) -> int:
        try:
            return int(onnx.defs.get_schema(node.op_type, self._source, node.domain).since_version)
        except onnx.defs.SchemaError as error:
            raise self.refusal(node, "is no standard operator") from error

    def _drop(self, node: onnx.NodeProto, name: str, usual: Any) -> None:
        """Takes out an attribute that says what is meant without it; refuses another value."""
        item = next((each for each in node.attribute if each.name == name), None)
        if item is None:
            return
        value = helper.get_attribute_value(item)
        if any(each != usual for each in (value if isinstance(value, list) else [value])):
            raise self.refusal(node, f"has {name}={value!r}, which cannot be said there")
        node.attribute.remove(item)

    def _refuse_functions(self, model: onnx.ModelProto) -> None:
        if model.functions:
            raise UnsupportedModel("A file with functions of its own cannot be put into an older opset.")

    def refusal(self, node: onnx.NodeProto, why: str) -> UnsupportedModel:
        """The error that names an operator and where it stands."""
        return UnsupportedModel(
            f"{place_of(node)} {why}, so the model cannot be written in ONNX opset {self.opset}; "
            f"choose a target with an opset of {self._source} or more, or build the model without it."
        )

    def constant(self, node: onnx.NodeProto, place: int) -> np.ndarray | None:
        """The stored numbers at an input; None where there is no such input."""
        name = node.input[place] if len(node.input) > place else ""
        if not name:
            return None
        if name not in self._stored:
            raise self.refusal(node, f"computes its input {place + 1} from the image")
        found: np.ndarray = numpy_helper.to_array(self._stored[name])
        return found

    def shape(self, node: onnx.NodeProto, name: str) -> list[int | None]:
        """The shape of a value."""
        if name not in self._shapes:
            raise self.refusal(node, f"reads {name!r} of unknown shape")
        return self._shapes[name]

    def store(self, node: onnx.NodeProto, word: str, values: Any) -> str:
        """A new stored tensor of a node, and its name."""
        name = f"{node.output[0]}_{word}"
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        return name


class _Chain:
    """New nodes in place of one, each named after it."""

    def __init__(self, work: _Lowering, node: onnx.NodeProto) -> None:
        self.work, self.node = work, node
        self.made: list[onnx.NodeProto] = []

    def number(self, value: float) -> str:
        """A stored float."""
        return self.work.store(self.node, f"number{len(self.work.graph.initializer)}", np.float32(value))

    def add(self, op: str, *inputs: str, last: bool = False, **attributes: Any) -> str:
        """One more node; the last one gives the output of the node that it stands for."""
        output = self.node.output[0] if last else f"{self.node.output[0]}_{op}{len(self.made)}"
        name = f"{self.node.name or self.node.output[0]}_{op}{len(self.made)}"
        self.made.append(helper.make_node(op, list(inputs), [output], name, **attributes))
        return output


def _value(node: onnx.NodeProto, name: str, default: Any) -> Any:
    item = next((each for each in node.attribute if each.name == name), None)
    return default if item is None else helper.get_attribute_value(item)


def _without(node: onnx.NodeProto, *names: str) -> list[onnx.NodeProto]:
    kept = [each for each in node.attribute if each.name not in names]
    del node.attribute[:]
    node.attribute.extend(kept)
    return [node]


def _reduce(work: _Lowering, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Axes as an attribute instead of an input."""
    axes = work.constant(node, 1)
    if _value(node, "noop_with_empty_axes", 0) and (axes is None or not axes.size):
        return [helper.make_node("Identity", node.input[:1], node.output, node.name)]
    del node.input[1:]
    _without(node, "noop_with_empty_axes")
    if axes is not None and axes.size:
        node.attribute.append(helper.make_attribute("axes", [int(axis) for axis in axes]))
    return [node]


def _split(work: _Lowering, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """The sizes of the parts instead of their number."""
    if len(node.input) < 2 or not node.input[1]:
        whole, parts = work.shape(node, node.input[0])[_value(node, "axis", 0)], len(node.output)
        if whole is None:
            raise work.refusal(node, "splits an axis of unknown length")
        each = math.ceil(whole / parts)
        sizes = np.array([min(each, whole - each * part) for part in range(parts)])
        del node.input[1:]
        node.input.append(work.store(node, "sizes", sizes))
    return _without(node, "num_outputs")


def _resize(work: _Lowering, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Scales or sizes of all axes."""
    if _value(node, "coordinate_transformation_mode", b"") == b"half_pixel_symmetric" and work.opset < 19:
        raise work.refusal(node, "counts positions as half_pixel_symmetric, which cannot be said there")
    if (axes := _value(node, "axes", None)) is not None:
        shape = work.shape(node, node.input[0])
        for place, usual in ((2, np.ones(len(shape), np.float32)), (3, shape)):
            given = work.constant(node, place)
            if given is None or not given.size:
                continue
            full = list(usual)
            for axis, value in zip(axes, given):
                full[axis] = value
            if None in full:
                raise work.refusal(node, "gives sizes of some axes while others are unknown")
            node.input[place] = work.store(node, f"input{place}", np.array(full, given.dtype))
        _without(node, "axes")
    return [node]


def _reshape(work: _Lowering, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """A zero means to keep the axis, as it always did in older opsets."""
    if _value(node, "allowzero", 0) and work.opset < 14:
        shape = work.constant(node, 1)
        if shape is not None and (shape == 0).any():
            raise work.refusal(node, "asks for an axis of length zero, which cannot be said there")
    return _without(node, "allowzero") if work.opset < 14 else [node]


def _pad(work: _Lowering, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Margins of all axes."""
    if _value(node, "mode", b"constant") == b"wrap":
        raise work.refusal(node, "wraps around, which cannot be said there")
    axes = work.constant(node, 3)
    if axes is not None:
        given, rank = work.constant(node, 1), len(work.shape(node, node.input[0]))
        assert given is not None  # the margins are no optional input
        full = np.zeros((2, rank), np.int64)
        full[:, axes] = given.reshape(2, -1)
        node.input[1] = work.store(node, "margins", full.ravel())
        del node.input[3:]
    return [node]


def _shape(work: _Lowering, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """The whole shape, and a slice of it."""
    start, end = _value(node, "start", 0), _value(node, "end", None)
    if work.opset >= 15:
        return [node]
    if not start and end is None:
        return _without(node, "start", "end")
    chain = _Chain(work, node)
    whole = chain.add("Shape", node.input[0])
    limits = (("start", start), ("end", 2**31 - 1 if end is None else end))
    ends = [work.store(node, word, np.array([value])) for word, value in limits]
    chain.add("Slice", whole, *ends, last=True)
    return chain.made


def _gelu(work: _Lowering, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    chain, x = _Chain(work, node), node.input[0]
    if _value(node, "approximate", b"none") == b"tanh":
        cube = chain.add("Mul", chain.add("Mul", x, x), x)
        inner = chain.add("Add", x, chain.add("Mul", cube, chain.number(0.044715)))
        turned = chain.add("Tanh", chain.add("Mul", inner, chain.number(math.sqrt(2 / math.pi))))
    else:
        turned = chain.add("Erf", chain.add("Mul", x, chain.number(math.sqrt(0.5))))
    half = chain.add("Mul", x, chain.number(0.5))
    chain.add("Mul", half, chain.add("Add", turned, chain.number(1.0)), last=True)
    return chain.made


def _hard_swish(work: _Lowering, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    chain = _Chain(work, node)
    gate = chain.add("HardSigmoid", node.input[0], alpha=1 / 6, beta=0.5)
    chain.add("Mul", node.input[0], gate, last=True)
    return chain.made


def _mish(work: _Lowering, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    chain = _Chain(work, node)
    chain.add("Mul", node.input[0], chain.add("Tanh", chain.add("Softplus", node.input[0])), last=True)
    return chain.made


def _layer_normalization(work: _Lowering, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    chain, (x, scale, *bias) = _Chain(work, node), node.input
    if len([name for name in node.output if name]) > 1:
        raise work.refusal(node, "gives its mean away too, which cannot be said there")
    rank = len(work.shape(node, x))
    axes = list(range(_value(node, "axis", -1) % rank, rank))

    def mean(name: str) -> str:
        if work.opset < 18:
            return chain.add("ReduceMean", name, axes=axes, keepdims=1)
        return chain.add("ReduceMean", name, work.store(node, f"axes{len(chain.made)}", np.array(axes)), keepdims=1)

    centred = chain.add("Sub", x, mean(x))
    spread = chain.add("Add", mean(chain.add("Mul", centred, centred)), chain.number(_value(node, "epsilon", 1e-5)))
    even = chain.add("Div", centred, chain.add("Sqrt", spread))
    scaled = chain.add("Mul", even, scale, last=not any(bias))
    if any(bias):
        chain.add("Add", scaled, bias[0], last=True)
    return chain.made


Rule = Callable[[_Lowering, onnx.NodeProto], list[onnx.NodeProto]]

RULES: dict[str, Rule] = {
    "Gelu": _gelu,
    "HardSwish": _hard_swish,
    "LayerNormalization": _layer_normalization,
    "Mish": _mish,
    "Pad": _pad,
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Split": _split,
}
"""The nodes that take the place of an operator which an older opset says otherwise."""
RULES |= {f"Reduce{word}": _reduce for word in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod")}
RULES |= {"ReduceSumSquare": _reduce}
