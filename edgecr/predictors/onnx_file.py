"""Reading ONNX files, ours or a user's, without running them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from edgecr.core.errors import FileProblem
from edgecr.core.files import is_utf8, opened

PREPROCESSING, LABELS, WEIGHTS = "edgecr.preprocessing", "edgecr.labels", "edgecr.weights"
"""Notes in files that EdgeCR made: mean, std, size, embedded and layout, the class names, the hash of the model."""

_AS_ON_ARM = {"session.qdqisint8allowed": "1"}
"""ONNX Runtime's own setting on ARM, where int8 activations have kernels.

On x86 it makes uint8 of them otherwise, and sums of their products with weights of 8 bits saturate there.
"""
DEFAULT = ("", "ai.onnx")
"""The names of the domain of ONNX's own operators."""


@dataclass(frozen=True)
class OnnxDescription:
    """The contents that an ONNX file declares; inputs and outputs are described as in a manifest."""

    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    opset: int
    ir_version: int
    notes: dict[str, str] = field(default_factory=dict)


def read_onnx(path: Path) -> onnx.ModelProto:
    """Parses an ONNX file; weights in side files stay there; a damaged file is a FileProblem."""
    check_name(path)
    with opened(path) as file:
        content = file.read()
    try:
        model = onnx.ModelProto.FromString(content)
    except DecodeError as error:
        raise FileProblem(f"{path} is not an ONNX file, or it is cut short.") from error
    if not model.graph.node or not model.opset_import:
        raise FileProblem(f"{path} holds no ONNX graph.")
    return model


def check_name(path: Path) -> None:
    """Refuses a path that is not UTF-8: ONNX, its runtimes and every record of a file need one that is."""
    if not is_utf8(str(path)):
        raise FileProblem(f"The name of {str(path)!r} is not UTF-8. Rename the file, or the folder that it lies in.")


def describe_onnx(path: Path) -> OnnxDescription:
    """Inputs, outputs and versions of any ONNX file."""
    model = read_onnx(path)
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [_described(value) for value in model.graph.input if value.name not in stored]
    return OnnxDescription(
        [value | {"layout": _layout(value["shape"])} for value in inputs],
        [_described(value) for value in model.graph.output],
        opset_of(model),
        model.ir_version,
        notes_of(model),
    )


def opset_of(model: onnx.ModelProto) -> int:
    """The version of the standard operators that a model uses; 0 when it uses none."""
    return next((int(entry.version) for entry in model.opset_import if entry.domain in DEFAULT), 0)


def notes_of(model: onnx.ModelProto) -> dict[str, str]:
    """The notes that the maker of a file left in it, by their keys."""
    return {entry.key: entry.value for entry in model.metadata_props}


def has_signed_activations(model: onnx.ModelProto) -> bool:
    """True if some value between layers is rounded to int8; weights that the file rounds itself do not count."""
    stored = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            stored[node.output[0]] = node.attribute[0].t.data_type
        elif node.op_type == "Transpose" and node.input[0] in stored:
            stored[node.output[0]] = stored[node.input[0]]
    zeros = [
        node.input[2:] for node in model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] not in stored
    ]
    return any(stored.get(name) == onnx.TensorProto.INT8 for names in zeros for name in names)


def session_entries(model: onnx.ModelProto) -> dict[str, str]:
    """The entries of ONNX Runtime's configuration in which a file is computed as its integers say."""
    rounds = any(node.op_type == "QuantizeLinear" for node in model.graph.node)
    return dict(_AS_ON_ARM) if rounds and has_signed_activations(model) else {}


def _described(value: onnx.ValueInfoProto) -> dict[str, Any]:
    tensor = value.type.tensor_type
    shape = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
    return {"name": value.name, "dtype": _dtype(tensor.elem_type), "shape": shape}


def _dtype(element: int) -> str:
    try:
        return str(onnx.helper.tensor_dtype_to_np_dtype(element))
    except KeyError:
        return "unknown"


def _layout(shape: list[int | None]) -> str:
    """NCHW or NHWC where one axis looks like the colours of an image, else nothing."""
    if len(shape) != 4:
        return ""
    if shape[1] in (1, 3, 4):
        return "NCHW"
    return "NHWC" if shape[3] in (1, 3, 4) else ""
