"""Channels of a layer that hold nothing but zeros: masked, but still in the file."""

from __future__ import annotations

import math

import numpy as np

from edgecr.surgery.counts import LayerCount


def zero_channels_of(layer: LayerCount, weights: np.ndarray) -> int:
    """The output channels of a layer whose weights, with axes as in PyTorch, are all zero."""
    if layer.kind == "conv_transpose":  # (in, out / groups, …), the inputs in one block for each group
        blocks = weights.reshape(layer.groups, -1, weights.shape[1], math.prod(weights.shape[2:]))
        return int((~blocks.any(axis=(1, 3))).sum())
    if layer.kind == "linear":
        return int((~weights.any(axis=-1)).sum())
    return int((~weights.any(axis=tuple(range(1, weights.ndim)))).sum())
