"""Names of layers, as the tensors of a file bear them."""

from __future__ import annotations


def layer_name(tensor: str) -> str:
    """The layer that a weight belongs to: its module's name."""
    return tensor.removesuffix("_quantized").removesuffix(".weight")
