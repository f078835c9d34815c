"""The graphs of an ONNX file, those inside branches and loops too, and what is known where one of them begins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

_SINGLE = {"value_int": np.int64, "value_ints": np.int64, "value_float": np.float32, "value_floats": np.float32}
"""Numbers that a Constant may hold without a tensor."""


@dataclass(frozen=True)
class Scope:
    """One graph; what the graphs around it hold counts as its own, as its nodes may read it."""

    graph: onnx.GraphProto
    folder: Path
    """The folder of numbers that lie outside the file."""
    stored: Mapping[str, TensorProto] = field(default_factory=dict)
    """Tensors in the file: initializers and constants."""
    makers: Mapping[str, onnx.NodeProto] = field(default_factory=dict)
    fixed: frozenset[str] = frozenset()
    """Values that do not depend on the image: stored ones, and those made of them."""
    readers: Mapping[str, list[onnx.NodeProto]] = field(default_factory=dict)
    """The nodes that read a value, those of inner graphs too."""
    shapes: Mapping[str, tuple[int | None, ...]] = field(default_factory=dict)
    """The sizes of values, as far as they are known."""

    def numbers(self, name: str) -> np.ndarray:
        """The numbers of a stored tensor."""
        return np.asarray(numpy_helper.to_array(self.stored[name], str(self.folder)))

    def is_one(self, name: str) -> bool:
        """True for a stored tensor of one number."""
        return int(np.prod(self.stored[name].dims)) == 1


def scopes(model: onnx.ModelProto, folder: Path) -> Iterator[Scope]:
    """The graph of a valid file, then those inside it."""
    yield from _inside(_scope(model.graph, Scope(model.graph, folder)))


def _inside(scope: Scope) -> Iterator[Scope]:
    yield scope
    for node in scope.graph.node:
        for body in bodies(node):
            yield from _inside(_scope(body, scope))


def bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs that a node holds: branches, and the bodies of loops."""
    for item in node.attribute:
        yield from (*([item.g] if item.HasField("g") else []), *item.graphs)


def _scope(graph: onnx.GraphProto, around: Scope) -> Scope:
    stored = {**around.stored, **{tensor.name: tensor for tensor in graph.initializer}}
    for node in graph.node:
        if node.op_type == "Constant" and (tensor := _constant(node)) is not None:
            stored[node.output[0]] = tensor
    fixed = {*around.fixed, *stored}
    for node in graph.node:
        if fixed.issuperset(_reads(node)):
            fixed.update(node.output)
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in _nodes(graph):
        for name in node.input:
            readers.setdefault(name, []).append(node)
    makers = {**around.makers, **{name: node for node in graph.node for name in node.output}}
    shapes = {**around.shapes, **{name: tuple(tensor.dims) for name, tensor in stored.items()}}
    for value in (*graph.input, *graph.value_info, *graph.output):
        sizes = value.type.tensor_type.shape.dim
        shapes[value.name] = tuple(size.dim_value if size.HasField("dim_value") else None for size in sizes)
    return Scope(graph, around.folder, stored, makers, frozenset(fixed), readers, shapes)


def _constant(node: onnx.NodeProto) -> TensorProto | None:
    """The numbers of a constant as a tensor; None for text and for sparse ones."""
    (item,) = node.attribute
    if item.name == "value":
        return item.t
    if item.name in _SINGLE:
        return numpy_helper.from_array(np.array(onnx.helper.get_attribute_value(item), _SINGLE[item.name]))
    return None


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for body in bodies(node):
            yield from _nodes(body)


def _reads(node: onnx.NodeProto) -> Iterable[str]:
    """The names of values that a node needs, with those that its bodies take from around them."""
    found = {name for name in node.input if name}
    for body in bodies(node):
        own = {each.name for each in (*body.input, *body.initializer)}
        own.update(name for each in body.node for name in each.output)
        found.update(set().union(*(_reads(each) for each in body.node)) - own)
        found.update({each.name for each in body.output} - own)
    return found
