"""Names of layers, as the tensors of a file bear them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any


def layer_name(tensor: str) -> str:
    """The layer that a weight belongs to: its module's name."""
    return tensor.removesuffix("_quantized").removesuffix(".weight")


def weighted_nodes(model: Any, kinds: Collection[str]) -> Iterator[tuple[Any, str]]:
    """Yields the nodes of some kinds that multiply by stored weights, with the name of their layer."""
    stored = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in kinds and (weight := next((name for name in node.input if name in stored), "")):
            yield node, layer_name(weight)
