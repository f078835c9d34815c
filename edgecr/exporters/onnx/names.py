"""Names of layers, as the tensors of a file bear them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from edgecr.core.printable import one_line

_WEIGHT = ".weight"
_ROUNDED = ("_QuantizeLinear_Output", "_quantized")
"""Endings that ONNX Runtime gives to a weight that is rounded to integers: by the file, and in it."""


def layer_name(tensor: str) -> str:
    """The layer that a weight belongs to: its module's name."""
    for ending in _ROUNDED:
        tensor = tensor.removesuffix(ending)
    return tensor.removesuffix(_WEIGHT)


def weighted_nodes(model: Any, kinds: Collection[str]) -> Iterator[tuple[Any, str]]:
    """Yields the nodes of some kinds that multiply by stored weights, with the name of their layer."""
    stored = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in kinds and (weight := next((name for name in node.input if name in stored), "")):
            yield node, layer_name(weight)


def place_of(node: Any) -> str:
    """A node in words: its operator and name, and the layer that its weight is named after.

    Layers with equal weights share one tensor, so that the name tells where the weights are from, not the node's layer.
    """
    weight = next((name for name in node.input if _WEIGHT in name), None)
    layer = "" if weight is None else f" with the weights of layer {weight.partition(_WEIGHT)[0]}"
    return one_line(f"{node.op_type} {node.name or next(iter(node.output), '')}{layer}")
