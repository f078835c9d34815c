"""Any ONNX file held against the documents of some versions of TensorRT: what they refuse, and what costs speed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper, shape_inference

from edgecr.exporters.onnx.names import place_of
from edgecr.exporters.readiness import Readiness
from edgecr.exporters.tensorrt.declaration import TensorRtTarget
from edgecr.exporters.tensorrt.rounding_rules import rounding_problems, rounding_remarks
from edgecr.exporters.tensorrt.sparsity import eligible
from edgecr.exporters.tensorrt.versions import OLDEST_OPSET, Version
from edgecr.predictors.onnx_file import opset_of, read_onnx

_TYPES = {"FLOAT", "FLOAT16", "INT8", "INT32", "INT64", "BOOL", "DOUBLE"}
_STORED = {"CumSum": 1, "Pad": 3, "Slice": 3, "Squeeze": 1, "Unsqueeze": 1}
_STORED |= {f"Reduce{word}": 1 for word in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum")}
"""Inputs that must be stored numbers: the axes."""
_LARGEST_K = 3840
_OF_DATA = {"NonMaxSuppression", "NonZero"}
"""Operators whose result has a shape that depends on the image."""
_PLAIN: dict[str, dict[str, tuple[object, ...]]] = {
    "AveragePool": {"dilations": (1,)},
    "LpPool": {"dilations": (1,)},
    "MaxPool": {"dilations": (1,)},
    "Resize": {
        "antialias": (0,),
        "coordinate_transformation_mode": (
            *(b"half_pixel", b"pytorch_half_pixel", b"tf_half_pixel_for_nn", b"asymmetric", b"align_corners"),
        ),
        "keep_aspect_ratio_policy": (b"stretch",),
        "mode": (b"nearest", b"linear"),
    },
    "ScatterND": {"reduction": (b"none",)},
    "TopK": {"sorted": (1,)},
}
"""The values of attributes that are taken."""
_NAMED = 8


def readiness(file: Path, target: TensorRtTarget) -> Readiness:
    """Findings on a file for the versions of TensorRT that a target is for."""
    model = read_onnx(file)
    problems: dict[str, dict[str, None]] = {}
    for version in target.versions:
        for problem in _problems(model, version):
            problems.setdefault(problem, {})[version.name] = None
    told = [f"{problem} (TensorRT {', '.join(names)})" for problem, names in problems.items()]
    remarks = [*rounding_remarks(model), *_remarks(model)]
    if not told:
        found, about = _sparse(file, target)
        told, remarks = told + found, remarks + about
    if len(told) > _NAMED:
        told = [*told[:_NAMED], f"{len(told) - _NAMED} more"]
    return Readiness(tuple(told), tuple(remarks), tuple(version.source for version in target.versions))


def _problems(model: onnx.ModelProto, version: Version) -> Iterator[str]:
    opset = opset_of(model)
    if not OLDEST_OPSET <= opset <= version.opset:
        yield f"the file has opset {opset}, and {OLDEST_OPSET} to {version.opset} are read"
    if model.ir_version > version.ir_version:
        yield f"the file has ONNX's format version {model.ir_version}, and up to {version.ir_version} are read"
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        yield f"the file is no valid ONNX: {str(error).strip().splitlines()[0]}"
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type not in version.operators:
            yield f"{place_of(node)} is an operator that the parser does not know"
    yield from _type_problems(model, version)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    stored |= {node.output[0]: node.attribute[0].t for node in model.graph.node if node.op_type == "Constant"}
    fixed = _independent(model, stored)
    for node in model.graph.node:
        yield from _limits(node, stored, fixed, version)
    yield from rounding_problems(model, version)


def _type_problems(model: onnx.ModelProto, version: Version) -> Iterator[str]:
    """Number formats that are not taken; unsigned bytes only at the ends of a network."""
    graph = shape_inference.infer_shapes(model).graph
    ends = {value.name for value in (*graph.input, *graph.output)}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = TensorProto.DataType.Name(value.type.tensor_type.elem_type)
        if kind == "UINT8" and value.name in ends and version.uint8_ends:
            continue
        if kind not in (*_TYPES, "UNDEFINED"):
            yield f"{value.name!r} is of type {kind.lower()}, which is not taken there"
    for tensor in graph.initializer:
        kind = TensorProto.DataType.Name(tensor.data_type)
        if kind not in _TYPES:
            yield f"the stored tensor {tensor.name!r} is of type {kind.lower()}, which is not taken"


def _limits(
    node: onnx.NodeProto, stored: dict[str, onnx.TensorProto], fixed: set[str], version: Version
) -> Iterator[str]:
    """Uses of a known operator that the parser does not take."""
    place = _STORED.get(node.op_type)
    if place is not None and len(node.input) > place and node.input[place] not in ("", *stored):
        yield f"{place_of(node)} computes its axes from the image"
    for item in node.attribute:
        taken = _PLAIN.get(node.op_type, {}).get(item.name)
        value = onnx.helper.get_attribute_value(item) if taken else None
        if taken and any(each not in taken for each in (value if isinstance(value, list) else [value])):
            yield f"{place_of(node)} has {item.name}={_plain(value)}"
    if node.op_type == "MaxPool" and len(node.output) > 1 and node.output[1]:
        yield f"{place_of(node)} gives the places of its maxima, which is not taken"
    if node.op_type in ("Conv", "ConvTranspose") and version.number < (8, 5) and node.input[1] not in fixed:
        yield f"{place_of(node)} computes its weights from the image"
    if node.op_type == "TopK":
        yield from _top_k(node, stored, version)


def _independent(model: onnx.ModelProto, stored: Iterable[str]) -> set[str]:
    """The values that do not depend on the image: stored ones, and those made of them."""
    found = set(stored)
    for node in model.graph.node:
        if all(name in found or not name for name in node.input):
            found.update(node.output)
    return found


def _top_k(node: onnx.NodeProto, stored: dict[str, onnx.TensorProto], version: Version) -> Iterator[str]:
    known = stored.get(node.input[1])
    if known is None and not version.data_dependent_k:
        yield f"{place_of(node)} computes its number of results from the image"
    elif known is not None and int(np.ravel(numpy_helper.to_array(known))[0]) >= _LARGEST_K:
        yield f"{place_of(node)} asks for {_LARGEST_K} results or more"


def _remarks(model: onnx.ModelProto) -> Iterator[str]:
    kinds = {tensor.data_type for tensor in model.graph.initializer}
    if TensorProto.DOUBLE in kinds:
        yield "stored numbers of 64-bit floats are cut to 32 bits"
    stored = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        free = [place for place, dim in enumerate(dims) if not dim.HasField("dim_value")]
        if value.name not in stored and free:
            axes = ", ".join(map(str, free))
            yield f"input {value.name!r} leaves axes {axes} open: the engine is built for a range of shapes"
    for node in model.graph.node:
        if node.op_type in _OF_DATA:
            yield f"{place_of(node)} has a result whose shape depends on the image, which costs time at every call"


def _sparse(file: Path, target: TensorRtTarget) -> tuple[list[str], list[str]]:
    """The layers that 2:4 sparsity is for: problems where they are asked for, and a remark."""
    layers = dict(eligible(file))
    without = [name for name, has in layers.items() if not has]
    if not target.sparsity:
        about = (
            f"layers wide enough for 2:4 sparsity: {', '.join(layers)}; with the pattern: {len(layers) - len(without)}"
        )
        return [], [about] if layers else []
    if not layers:
        return ["sparsity is asked for, but no ungrouped layer has 256 channels on both sides"], []
    if without:
        return [f"sparsity is asked for, but these layers have no two zeros in every four: {', '.join(without)}"], []
    return [], [f"2:4 sparsity in {', '.join(layers)}"]


def _plain(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
