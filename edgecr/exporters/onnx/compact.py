"""Compact ONNX files: sparse and sign-like weights lie packed, and standard operators of the graph unpack them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from edgecr.core.errors import ExportRefused, FileProblem
from edgecr.core.files import write_bytes
from edgecr.exporters.onnx.unpacking_nodes import (
    CHANNELS,
    COMMON,
    FILLED,
    PART,
    SHAPE,
    UnpackingNodes,
    shared_nodes,
    shared_tensors,
)
from edgecr.predictors.onnx_file import read_onnx
from edgecr.surgery.packing import (
    GAPS,
    LEAST_BYTES,
    MASK,
    MOST_BYTES,
    SCALES,
    SIGNS,
    TRITS,
    VALUES,
    PackedWeight,
    by_cost,
)

_MOST_AXES = 8
_BYTES, _FLOATS, _NUMBERS = "u1", "<f4", "<i8"
_PARTS = {MASK: _BYTES, SIGNS: _BYTES, TRITS: _BYTES, VALUES: _FLOATS, SCALES: _FLOATS} | dict.fromkeys(GAPS, _BYTES)
_TYPES = {_BYTES: TensorProto.UINT8, _FLOATS: TensorProto.FLOAT, _NUMBERS: TensorProto.INT64}


def read_plain(path: Path) -> onnx.ModelProto:
    """Parses an ONNX file; packed weights are unpacked, and a FileProblem where that cannot be done."""
    model = read_onnx(path)
    try:
        return unpacked(model)
    except FileProblem as error:
        raise FileProblem(f"{path} cannot be unpacked: {error}.") from error


def compact(file: Path) -> None:
    """Writes a plain file anew as a compact one."""
    plain = read_onnx(file)
    made = compacted(plain)
    if unpacked(made) != plain:
        raise ExportRefused("The weights of the compact file are not those of the plain one.")
    try:
        onnx.checker.check_model(made, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportRefused(f"The compact graph is not valid ONNX: {error}") from error
    file.write_bytes(made.SerializeToString(deterministic=True))


def unpack(source: Path, file: Path) -> None:
    """Writes the plain file that a compact one was made from, byte by byte; FileProblem for one that is not compact."""
    if not is_compact(read_onnx(source)):
        raise FileProblem(f"{source} has no packed weights: it is a plain file already.")
    plain = read_plain(source)
    try:
        onnx.checker.check_model(plain)
    except onnx.checker.ValidationError as error:
        raise FileProblem(f"{source} holds no valid graph besides its packed weights: {error}.") from error
    write_bytes(file, plain.SerializeToString(deterministic=True))


def compacted(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with every weight in the smallest form that gives it back bit by bit."""
    made, own = _without_weights(model), list[onnx.NodeProto]()
    for tensor in model.graph.initializer:
        packed = _packed(tensor)
        made.graph.initializer.extend([tensor] if packed is None else packed.tensors)
        own += [] if packed is None else packed.nodes
    nodes = [*shared_nodes(own), *own]
    made.graph.initializer.extend(shared_tensors(nodes))
    made.graph.node.extend([*nodes, *model.graph.node])
    return made if made.ByteSize() < model.ByteSize() else model


def is_compact(model: onnx.ModelProto) -> bool:
    """True if a model has packed weights."""
    return any(tensor.name.partition(PART)[2] in _PARTS for tensor in model.graph.initializer)


def unpacked(model: onnx.ModelProto) -> onnx.ModelProto:
    """The plain model that a compact one was made from, byte by byte; a plain one is returned as it is.

    Nothing is executed: the nodes must be the very ones that `compacted` writes for the parts, or it is a FileProblem.
    """
    if not is_compact(model):
        return model
    _refuse_namesakes(model)
    weights = dict(_weights(model))
    first = {each.tensors[0].name: name for name, each in weights.items()}
    own = [node for each in weights.values() for node in each.nodes]
    nodes = [*own, *shared_nodes(own)]
    expected = {node.output[0]: node for node in nodes}
    parts = [tensor for each in weights.values() for tensor in each.tensors]
    stored = {tensor.name: tensor for tensor in (*parts, *shared_tensors(nodes))}
    made = _without_weights(model)
    for tensor in model.graph.initializer:
        if tensor.name in first:
            name = first[tensor.name]
            made.graph.initializer.append(numpy_helper.from_array(weights[name].packed.weight(), name))
        elif tensor.name not in stored:
            made.graph.initializer.append(tensor)
        elif stored[tensor.name] != tensor:
            raise FileProblem(f"{tensor.name} is not what EdgeCR writes")
    for node in model.graph.node:
        if not node.output or node.output[0] not in expected:
            made.graph.node.append(node)
        elif expected.pop(node.output[0]) != node:
            raise FileProblem(f"{node.output[0]} is made in another way than EdgeCR writes")
    if expected:
        raise FileProblem(f"{next(iter(expected))} is not made at all")
    return made


def _refuse_namesakes(model: onnx.ModelProto) -> None:
    """FileProblem for two tensors of one name: each packed weight is unpacked, and its size counted, once."""
    for name, times in Counter(tensor.name for tensor in model.graph.initializer).items():
        if times > 1:
            raise FileProblem(f"{name} is stored {times} times")


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a model without its nodes and tensors."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.initializer[:], made.graph.node[:]
    return made


def _packed(tensor: TensorProto) -> UnpackingNodes | None:
    """The smallest packed form of a stored tensor; None where it is smaller as it is, or is no plain float32 weight."""
    if tensor.data_type != TensorProto.FLOAT or not tensor.HasField("raw_data") or len(tensor.dims) < 2:
        return None
    if len(tensor.raw_data) < LEAST_BYTES or PART in tensor.name or tensor.name.startswith(COMMON):
        return None
    weight = numpy_helper.to_array(tensor)
    for form in by_cost(weight):
        made = UnpackingNodes(tensor.name, form)
        size = sum(each.ByteSize() for each in (*made.tensors, *made.nodes))
        if size < tensor.ByteSize() and numpy_helper.from_array(form.weight(), tensor.name) == tensor:
            return made
    return None


def _weights(model: onnx.ModelProto) -> Iterator[tuple[str, UnpackingNodes]]:
    """The packed weights by name, as their parts tell; none is unpacked before its size is known to be possible."""
    parts: dict[str, dict[str, TensorProto]] = {}
    for tensor in model.graph.initializer:
        name, separator, part = tensor.name.partition(PART)
        if separator:
            parts.setdefault(name, {})[part] = tensor
    total = 0
    for name, stored in parts.items():
        shape = _shape(stored, name)
        total += math.prod(shape) * 4
        if not 2 <= len(shape) <= _MOST_AXES or min(shape) < 1 or total > MOST_BYTES:
            raise FileProblem(f"the packed weight {name} has a shape that no weight has: {list(shape)[:_MOST_AXES]}")
        arrays = {part: _array(tensor, _PARTS[part], name) for part, tensor in stored.items() if part in _PARTS}
        if not _fit(arrays):
            raise FileProblem(f"the packed weight {name} has parts that do not belong together: {sorted(arrays)}")
        yield name, UnpackingNodes(name, PackedWeight(shape, arrays))


def _shape(stored: dict[str, TensorProto], name: str) -> tuple[int, ...]:
    """The shape that the parts of a weight tell."""
    if FILLED not in stored:
        return tuple(_array(stored.get(SHAPE), _NUMBERS, name).ravel().tolist())
    whole, channels = (_array(stored.get(part), _NUMBERS, name).ravel().tolist() for part in (FILLED, CHANNELS))
    return (*channels[:1], *whole[1:])


def _fit(arrays: dict[str, np.ndarray]) -> bool:
    """True for parts that make a form: at most one code of places, and values, signs or trits."""
    places = [part for part in arrays if part == MASK or part in GAPS]
    numbers = sorted(part for part in arrays if part not in places)
    forms = [[SCALES, SIGNS], [VALUES] if places else [SCALES, TRITS]]
    return len(places) <= 1 and all(array.ndim == 1 for array in arrays.values()) and numbers in forms


def _array(tensor: TensorProto | None, kind: str, name: str) -> np.ndarray:
    """The numbers of a stored part; FileProblem where its type, or the room that it takes, is another."""
    if tensor is None or tensor.data_type != _TYPES[kind] or tensor.data_location == TensorProto.EXTERNAL:
        raise FileProblem(f"the packed weight {name} lacks a part, or has one of another type")
    if min(tensor.dims, default=0) < 0 or math.prod(tensor.dims) * np.dtype(kind).itemsize != len(tensor.raw_data):
        raise FileProblem(f"the packed weight {name} has a part whose size is not that of its shape")
    return np.frombuffer(tensor.raw_data, kind).reshape(tuple(tensor.dims))
