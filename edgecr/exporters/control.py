"""Accuracy control: layers stay in floats, the costly ones first, until the rounded file answers nearly as before.

Models are of any format: how one is rounded and asked is given.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecr.exporters.drop import DropMeter
from edgecr.tasks import Outputs

_PROBED = 32
"""Training images that the sensitivity of layers is measured on."""
_NOISE = 25.5
"""Standard deviation of the noise on pixels that the sensitivity is measured with a second time."""

Rounder = Callable[[Collection[str]], Any]
"""Makes the rounded file in which these nodes stay in floats."""


@dataclass(frozen=True)
class Control:
    """The outcome: a file that keeps the limit, and what it took."""

    model: Any
    layers: tuple[str, ...]
    """The layers that stay in floats, the costliest first."""
    drop: float
    whole_drop: float
    """The drop with every layer rounded."""
    images: int
    sensitivity: dict[str, dict[str, float]]
    """For each layer the error of the outputs, ``clean`` and with ``noise``, when it alone is rounded; relative mean
    squares, on training images. Empty where nothing had to stay."""

    def plain(self) -> dict[str, Any]:
        """The record, without the file."""
        return {
            "floats_kept": list(self.layers),
            "drop": self.drop,
            "drop_with_all_rounded": self.whole_drop,
            "drop_images": self.images,
            "sensitivity": self.sensitivity,
        }


@dataclass
class Controlling:
    """One search for the fewest layers that must stay in floats."""

    rounder: Rounder
    nodes: Mapping[str, str]
    """The layers that may be rounded, by their nodes."""
    meter: DropMeter

    def within(self, limit: float) -> Control:
        """The file with the fewest layers in floats whose drop is at most the limit; ExportRefused where none is."""
        made: dict[int, tuple[Any, float]] = {}

        def with_kept(count: int) -> float:
            if count not in made:
                model = self.rounder([node for node in self.nodes if self.nodes[node] in order[:count]])
                made[count] = model, self.meter.of(model)
            return made[count][1]

        order: list[str] = []
        if with_kept(0) <= limit:
            return self._control(made[0], (), made[0][1], {})
        sensitivity = self._sensitivity()
        order = sorted(sensitivity, key=lambda layer: sum(sensitivity[layer].values()), reverse=True)
        few, many = 0, 1
        while with_kept(many) > limit:
            if many == len(order):
                raise self.meter.refused(made[many][1], limit)
            few, many = many, min(2 * many, len(order))
        while many - few > 1:
            middle = (few + many) // 2
            few, many = (few, middle) if with_kept(middle) <= limit else (middle, many)
        return self._control(made[many], tuple(order[:many]), made[0][1], sensitivity)

    def _control(
        self,
        made: tuple[Any, float],
        layers: tuple[str, ...],
        whole_drop: float,
        sensitivity: dict[str, dict[str, float]],
    ) -> Control:
        return Control(made[0], layers, made[1], whole_drop, self.meter.images, sensitivity)

    def _sensitivity(self) -> dict[str, dict[str, float]]:
        meter = self.meter
        clean = meter.proof.calibration(_PROBED)
        noise = np.random.default_rng(0).normal(0, _NOISE, clean.shape)
        noisy = (clean + noise).round().clip(0, 255).astype(np.uint8)
        probes = {name: meter.portions(images) for name, images in (("clean", clean), ("noise", noisy))}
        expected = {name: meter.outputs(meter.whole, portions) for name, portions in probes.items()}
        found = {}
        for layer in dict.fromkeys(self.nodes.values()):
            # Alone, and not all but this one: a value that is costly to round is so for the layers on both its sides.
            model = self.rounder([node for node, own in self.nodes.items() if own != layer])
            found[layer] = {
                name: error(expected[name], meter.outputs(model, portions)) for name, portions in probes.items()
            }
        return found


def error(expected: Outputs, given: Outputs) -> float:
    """The mean square of the difference relative to the square of the expected numbers, added up over the outputs.

    An output of small numbers counts as much as one of large ones. Infinite where a number is none.
    """
    return sum(_error(each.astype(np.float64), given[name]) for name, each in expected.items())


def _error(expected: np.ndarray, given: np.ndarray) -> float:
    if not (np.isfinite(expected).all() and np.isfinite(given).all()):
        return np.inf
    return float(np.square(given - expected).sum()) / (float(np.square(expected).sum()) or 1.0)
