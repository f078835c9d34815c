"""Names of layers, as the tensors of a file bear them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

_WEIGHT = ".weight"


def layer_name(tensor: str) -> str:
    """The layer that a weight belongs to: its module's name."""
    return tensor.removesuffix("_quantized").removesuffix(_WEIGHT)


def place_of(node: onnx.NodeProto) -> str:
    """A node in words: its operator and name, and its layer where it has a weight."""
    weight = next((name for name in node.input if _WEIGHT in name), None)
    layer = "" if weight is None else f" of layer {weight.partition(_WEIGHT)[0]}"
    return f"{node.op_type} {node.name or node.output[0]}{layer}"
