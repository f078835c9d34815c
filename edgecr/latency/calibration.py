"""From the sum of the layers to the whole model: a correction fitted to models that were measured whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from pydantic import Field

from edgecr.core.options import Options
from edgecr.latency.interpolation import Values
from edgecr.latency.layer import LayerConfig

DOUBT = 0.02
"""Relative error of one measured model, for the calibration."""
PLAUSIBLE = (0.5, 0.5, 0.25, 0.5)
"""Prior standard deviations of the terms for factor, layers, weights and activations, as fractions of the latency."""
Term = TypeVar("Term", float, Values)


class Sums(Options):
    """The totals over the layers of a model."""

    ms: float
    """Their times in the table."""
    layers: int
    mega_weights: float
    """Their weights, in millions."""
    mega_values: float
    """The elements of the images that they read and write, in millions."""

    @classmethod
    def of(cls, ms: float, configs: Sequence[LayerConfig]) -> Sums:
        """Everything but the times follows from the layers."""
        weights, values = sum(one.weights for one in configs), sum(one.values for one in configs)
        return cls(ms=ms, layers=len(configs), mega_weights=weights / 1e6, mega_values=values / 1e6)

    def terms(self) -> tuple[float, float, float, float]:
        """The terms of a calibration, in the order of its coefficients."""
        return (self.ms, float(self.layers), self.mega_weights, self.mega_values)


class CalibrationPoint(Options):
    """One whole model that the calibration was fitted to."""

    model: str
    sums: Sums
    measured_ms: float = Field(gt=0)
    """The whole model on the device, by the table's clock."""


class Calibration(Options):
    """From the sum of the layers to the whole model.

    A layer measured alone pays for a call of its own and for bringing its images into the runtime's blocked form and
    back; inside a network it pays for additions and pooling instead, and its weights come from memory, not a cache.
    """

    factor: float = 1.0
    per_layer_ms: float = 0.0
    per_mega_weight_ms: float = 0.0
    per_mega_value_ms: float = 0.0
    evidence: tuple[CalibrationPoint, ...] = ()

    def apply(self, sums: Sums) -> float:
        """The latency of a whole model."""
        return float(self.weigh(*sums.terms()))

    def weigh(self, ms: Term, layers: Term, mega_weights: Term, mega_values: Term) -> Term:
        """The same from the four terms, of one model or of many at once."""
        return (
            self.factor * ms
            + self.per_layer_ms * layers
            + self.per_mega_weight_ms * mega_weights
            + self.per_mega_value_ms * mega_values
        )

    def errors(self) -> dict[str, float]:
        """The relative error of the fit on each model it rests on."""
        return {one.model: self.apply(one.sums) / one.measured_ms - 1 for one in self.evidence}


def fitted(evidence: tuple[CalibrationPoint, ...]) -> Calibration:
    """The most likely calibration: near to the measured models, and no further from the bare sum than they ask for.

    A least-squares fit of relative errors, held by what is plausible, so that few or similar models do no harm.
    """
    if not evidence:
        return Calibration()
    rows = np.array([one.sums.terms() for one in evidence])
    rows /= np.array([[one.measured_ms] for one in evidence])
    scale = rows.mean(0)
    held = np.diag(DOUBT / np.array(PLAUSIBLE))
    matrix = np.concatenate([rows / scale, held])
    wanted = np.concatenate([1 - rows[:, 0], np.zeros(len(held))])
    change = np.linalg.lstsq(matrix, wanted, rcond=None)[0] / scale
    factor, per_layer, per_weight, per_value = (np.array([1.0, 0.0, 0.0, 0.0]) + change).tolist()
    return Calibration(
        factor=factor,
        per_layer_ms=per_layer,
        per_mega_weight_ms=per_weight,
        per_mega_value_ms=per_value,
        evidence=evidence,
    )
