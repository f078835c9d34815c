"""Any ONNX file held against the documents of some versions of TensorRT: what they refuse, and what costs speed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, shape_inference

from edgecr.core.errors import UnsupportedModel
from edgecr.core.printable import one_line
from edgecr.exporters.onnx.names import place_of
from edgecr.exporters.readiness import Readiness
from edgecr.exporters.tensorrt.declaration import TensorRtTarget
from edgecr.exporters.tensorrt.integers import rounded_layers
from edgecr.exporters.tensorrt.rounding_rules import rounding_problems, rounding_remarks
from edgecr.exporters.tensorrt.scopes import Scope, scopes
from edgecr.exporters.tensorrt.sizes import size_problems
from edgecr.exporters.tensorrt.sparsity import eligible
from edgecr.exporters.tensorrt.versions import OLDEST_OPSET, Version
from edgecr.predictors.onnx_file import DEFAULT, opset_of, read_onnx

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


def readiness(file: Path, target: TensorRtTarget) -> Readiness:
    """Findings on a file for the versions of TensorRT that a target is for."""
    model = read_onnx(file)
    sources = tuple(version.source for version in target.versions)
    if invalid := tuple(_invalid(model, file)):
        return Readiness(invalid, (), sources)
    model = shape_inference.infer_shapes(model)
    graphs = list(scopes(model, file.parent))
    if damaged := tuple(_damaged(graphs)):
        return Readiness(damaged, (), sources)
    problems: dict[str, dict[str, None]] = {}
    for version in target.versions:
        for problem in _problems(model, graphs, version):
            problems.setdefault(problem, {})[version.name] = None
    told = [f"{problem} (TensorRT {', '.join(names)})" for problem, names in problems.items()]
    told += dict.fromkeys(problem for scope in graphs for problem in size_problems(scope))
    told += _precision(graphs, target)
    remarks = [*(remark for scope in graphs for remark in rounding_remarks(scope)), *_remarks(model, graphs)]
    if not told:
        found, about = _sparse(file, target)
        told, remarks = told + found, remarks + about
    return Readiness(tuple(told), tuple(remarks), sources)


def _invalid(model: onnx.ModelProto, file: Path) -> Iterator[str]:
    """Reasons why no runtime could read the file; what follows relies on there being none."""
    try:
        onnx.checker.check_model(str(file), full_check=True)
    except (onnx.checker.ValidationError, shape_inference.InferenceError, ValueError) as error:
        yield f"the file is no valid ONNX: {one_line(' '.join(str(error).split()))}"
        return
    if sum(entry.domain in DEFAULT for entry in model.opset_import) > 1:
        yield "the file names more than one opset of ONNX's own operators"
    ends = shape_inference.infer_shapes(model).graph
    inputs = _inputs(ends)
    for kind, values in (("input", inputs), ("output", list(ends.output))):
        if not values:
            yield f"the file has no {kind}"
        for value in values:
            sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim if dim.HasField("dim_value")]
            if any(size < 1 for size in sizes):
                yield f"{kind} {value.name!r} has an axis without elements"


def _damaged(graphs: Iterable[Scope]) -> Iterator[str]:
    """Stored numbers that are not as many as their shape says, or whose file is cut short."""
    read = set[int]()
    for scope in graphs:
        for name, tensor in scope.stored.items():
            if id(tensor) in read:
                continue
            read.add(id(tensor))
            try:
                scope.numbers(name)
            except (KeyError, TypeError, ValueError, onnx.checker.ValidationError) as error:
                yield f"the stored tensor {name!r} cannot be read: {one_line(str(error))}"


def _inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """The inputs that a caller gives; old files list stored tensors among them."""
    stored = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in stored]


def _problems(model: onnx.ModelProto, graphs: Sequence[Scope], version: Version) -> Iterator[str]:
    opset = opset_of(model)
    if not OLDEST_OPSET <= opset <= version.opset:
        yield f"the file has opset {opset}, and {OLDEST_OPSET} to {version.opset} are read"
    if model.ir_version > version.ir_version:
        yield f"the file has ONNX's format version {model.ir_version}, and up to {version.ir_version} are read"
    if model.functions:
        names = ", ".join(one_line(function.name) for function in model.functions)
        yield f"the file has functions of its own, which the parser does not read: {names}"
    ends = {value.name for value in (*model.graph.input, *model.graph.output)} if version.uint8_ends else set[str]()
    for scope in graphs:
        for node in scope.graph.node:
            if node.domain not in DEFAULT or node.op_type not in version.operators:
                yield f"{place_of(node)} is an operator that the parser does not know"
        yield from _type_problems(scope.graph, ends if scope is graphs[0] else ())
        for node in scope.graph.node:
            yield from _limits(node, scope, version)
        yield from rounding_problems(scope, version)


def _precision(graphs: Iterable[Scope], target: TensorRtTarget) -> Iterator[str]:
    """The lack of what an engine of the target's precision is built from."""
    if target.precision == "int8" and not any(rounded_layers(scope.graph, scope.makers) for scope in graphs):
        yield "the target is for 8-bit integers, but no layer of the file has its input and its weights rounded"
    if target.precision == "fp16" and target.strongly_typed and not any(_has_halves(scope.graph) for scope in graphs):
        yield "the target is for float16, but no number of the file is of that type, which the engine takes over"


def _has_halves(graph: onnx.GraphProto) -> bool:
    kinds = {value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info, *graph.output)}
    return TensorProto.FLOAT16 in kinds


def _type_problems(graph: onnx.GraphProto, ends: Collection[str]) -> Iterator[str]:
    """Number formats that are not taken; unsigned bytes only at the ends of a network."""
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.WhichOneof("value") not in (None, "tensor_type"):
            yield f"{value.name!r} is no tensor, which is not taken"
            continue
        kind = _type_name(value.type.tensor_type.elem_type)
        if kind not in (*_TYPES, "UNDEFINED") and not (kind == "UINT8" and value.name in ends):
            yield f"{value.name!r} is of type {kind.lower()}, which is not taken there"
    for tensor in graph.initializer:
        kind = _type_name(tensor.data_type)
        if kind not in _TYPES:
            yield f"the stored tensor {tensor.name!r} is of type {kind.lower()}, which is not taken"
    for sparse in graph.sparse_initializer:
        yield f"the stored tensor {sparse.values.name!r} is sparse, which is not taken"


def _type_name(number: int) -> str:
    known = number in TensorProto.DataType.values()
    return str(TensorProto.DataType.Name(number)) if known else f"number {number}"


def _limits(node: onnx.NodeProto, scope: Scope, version: Version) -> Iterator[str]:
    """Uses of a known operator that the parser does not take."""
    place = _STORED.get(node.op_type)
    if place is not None and len(node.input) > place and node.input[place] not in ("", *scope.stored):
        yield f"{place_of(node)} computes its axes from the image"
    for item in node.attribute:
        taken = _PLAIN.get(node.op_type, {}).get(item.name)
        value = onnx.helper.get_attribute_value(item) if taken else None
        if taken and any(each not in taken for each in (value if isinstance(value, list) else [value])):
            yield f"{place_of(node)} has {item.name}={_plain(value)}"
    if node.op_type == "Constant" and node.output[0] not in scope.stored:
        yield f"{place_of(node)} holds text or sparse numbers, which are not taken"
    if node.op_type == "MaxPool" and len(node.output) > 1 and node.output[1]:
        yield f"{place_of(node)} gives the places of its maxima, which is not taken"
    if node.op_type in ("Conv", "ConvTranspose") and version.number < (8, 5) and node.input[1] not in scope.fixed:
        yield f"{place_of(node)} computes its weights from the image"
    if node.op_type == "TopK":
        yield from _top_k(node, scope, version)


def _top_k(node: onnx.NodeProto, scope: Scope, version: Version) -> Iterator[str]:
    known = _asked(node, scope)
    if known is None and not version.data_dependent_k:
        yield f"{place_of(node)} computes its number of results from the image"
    elif known is not None and known >= _LARGEST_K:
        yield f"{place_of(node)} asks for {_LARGEST_K} results or more"


def _asked(node: onnx.NodeProto, scope: Scope) -> int | None:
    """The number of results of a TopK; before opset 10 it is an attribute."""
    if len(node.input) < 2:
        return next((int(item.i) for item in node.attribute if item.name == "k"), None)
    return int(np.ravel(scope.numbers(node.input[1]))[0]) if node.input[1] in scope.stored else None


def _remarks(model: onnx.ModelProto, graphs: Iterable[Scope]) -> Iterator[str]:
    if any(tensor.data_type == TensorProto.DOUBLE for scope in graphs for tensor in scope.stored.values()):
        yield "stored numbers of 64-bit floats are cut to 32 bits"
    for value in _inputs(model.graph):
        dims = value.type.tensor_type.shape.dim
        if free := [place for place, dim in enumerate(dims) if not dim.HasField("dim_value")]:
            axes = ", ".join(map(str, free))
            yield f"input {value.name!r} leaves axes {axes} open: the engine is built for a range of shapes"
    for node in (node for scope in graphs for node in scope.graph.node):
        if node.op_type in _OF_DATA:
            yield f"{place_of(node)} has a result whose shape depends on the image, which costs time at every call"


def _sparse(file: Path, target: TensorRtTarget) -> tuple[list[str], list[str]]:
    """The layers that 2:4 sparsity is for: problems where they are asked for, and a remark."""
    try:
        layers = {one_line(name): has for name, has in eligible(file)}
    except UnsupportedModel as error:  # layers that cannot be counted, such as those inside branches
        return ([str(error)], []) if target.sparsity else ([], [])
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
    return one_line(value.decode(errors="backslashreplace")) if isinstance(value, bytes) else str(value)
