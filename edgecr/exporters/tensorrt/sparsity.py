"""Weights with two zeros in every four (2:4), which processors from Ampere on may skip."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgecr.exporters.onnx.count import count_onnx, layer_weights
from edgecr.surgery.blocks import TwoInFour
from edgecr.surgery.counts import LayerCount

_WIDE = 256
"""Channels on both sides from which on sparse kernels have been seen to pay."""


def eligible(file: Path) -> Iterator[tuple[str, bool]]:
    """The layers that sparse kernels are for, and whether their weights have the pattern."""
    for layer, weight in zip(count_onnx(file).layers, layer_weights(file)):
        if _is_wide(layer) and weight.size:
            yield layer.name, has_pattern(weight)


def has_pattern(weight: np.ndarray) -> bool:
    """True if at most two of each four weights along the input channels are not zero."""
    return TwoInFour().count(weight) * TwoInFour.size == weight.size


def _is_wide(layer: LayerCount) -> bool:
    outputs, inputs, *_ = layer.weight_shape
    wide = min(outputs, inputs) >= _WIDE and inputs % TwoInFour.size == 0
    return wide and layer.groups == 1 and layer.kind in ("conv", "linear") and len(layer.weight_shape) in (2, 4)
