"""The staircase of a device: the multiple of channels at which latency steps, found in measured curves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from edgecr.latency import Dimension, LayerConfig, Staircase

STEPS = (1, 2, 4, 8, 16, 32, 64)
FLAT_ENOUGH = 1.15
"""A staircase is only claimed when a straight line leaves that many times more unexplained."""
LAYERS = 3
"""Layers that are searched."""
LEAST_INPUTS, LEAST_OUTPUTS = 16, 48
WINDOW, STRIDE = 72, 3
"""Output counts that are tried: from the full width down by the window, in strides that meet all remainders."""


def costly(configs: Iterable[LayerConfig]) -> list[LayerConfig]:
    """The layers in which one output channel costs most, so that steps stand out from noise."""
    wide = [
        config
        for config in dict.fromkeys(configs)
        if config.groups == 1 and config.cin >= LEAST_INPUTS and config.cout >= LEAST_OUTPUTS
    ]
    return sorted(wide, key=lambda config: -config.macs / config.cout)[:LAYERS]


def stair_counts(config: LayerConfig) -> list[int]:
    """The output counts that are tried."""
    return list(range(config.cout, max(0, config.cout - WINDOW - 1), -STRIDE))[::-1]


def staircase(
    layer: LayerConfig, dimension: Dimension, counts: Sequence[int], milliseconds: Sequence[float]
) -> Staircase:
    """Finds the multiple at which latency steps: the one whose rounded-up counts explain the times best."""
    places, times = np.array(counts, dtype=np.float64), np.array(milliseconds, dtype=np.float64)
    left = {step: _unexplained(np.ceil(places / step) * step, times) for step in STEPS}
    best = min(left, key=lambda step: left[step])
    if left[1] < FLAT_ENOUGH * left[best]:
        best = 1
    return Staircase(
        layer=layer.key,
        dimension=dimension,
        counts=tuple(counts),
        milliseconds=tuple(milliseconds),
        step=best,
        unexplained=left[best],
    )


def _unexplained(rounded: NDArray[np.float64], times: NDArray[np.float64]) -> float:
    """The root mean square error of the best straight line over rounded counts, relative to the mean."""
    matrix = np.stack([rounded, np.ones_like(rounded)], axis=1)
    line = matrix @ np.linalg.lstsq(matrix, times, rcond=None)[0]
    return float(np.sqrt(np.mean((times - line) ** 2)) / times.mean())
