"""Counts of a model's cost as plain numbers, whoever counted: a module that ran, or an exported file. Torch-free."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class LayerCount:
    """One use of a layer; ``macs`` = weights x ``out_positions``, the places or rows they are applied to."""

    name: str
    kind: str
    weight_shape: tuple[int, ...]
    groups: int
    out_positions: int
    macs: int


@dataclass(frozen=True)
class Count:
    """The cost of a model: parameters, multiply-accumulates for one image, and bytes of its saved tensors."""

    params: int
    macs: int
    size_bytes: int
    layers: tuple[LayerCount, ...]

    def plain(self) -> dict[str, Any]:
        """The count as plain JSON values."""
        layers = [asdict(layer) | {"weight_shape": list(layer.weight_shape)} for layer in self.layers]
        return {"params": self.params, "macs": self.macs, "size_bytes": self.size_bytes, "layers": layers}
