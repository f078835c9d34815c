"""Accuracy control: layers stay in floats, the costly ones first, until the rounded file answers nearly as before."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx

from edgecr.core.errors import ExportRefused
from edgecr.data.views import ProofData
from edgecr.predictors.onnx_predictor import open_session
from edgecr.tasks import Outputs

JUDGED = 1000
"""Validation images, at most, that the drop is measured on."""
_PROBED = 32
"""Training images that the sensitivity of layers is measured on."""
_NOISE = 25.5
"""Standard deviation of the noise on pixels that the sensitivity is measured with a second time."""

Rounder = Callable[[Collection[str]], onnx.ModelProto]
"""Makes the rounded file in which these nodes stay in floats."""
Feed = Callable[[np.ndarray], np.ndarray]
"""Makes the input of the file out of uint8 images."""


@dataclass(frozen=True)
class Control:
    """The outcome: a file that keeps the limit, and what it took."""

    model: onnx.ModelProto
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

    whole: onnx.ModelProto
    rounder: Rounder
    nodes: Mapping[str, str]
    """The layers that may be rounded, by their nodes."""
    proof: ProofData
    feed: Feed
    portion: int
    settings: Mapping[str, str] | None
    """Those of the sessions that files are asked in; None for those that each file asks for."""

    def within(self, limit: float) -> Control:
        """The file with the fewest layers in floats whose drop is at most the limit; ExportRefused where none is."""
        made: dict[int, tuple[onnx.ModelProto, float]] = {}

        def with_kept(count: int) -> float:
            if count not in made:
                model = self.rounder([node for node in self.nodes if self.nodes[node] in order[:count]])
                made[count] = model, self._drop(model)
            return made[count][1]

        order: list[str] = []
        if with_kept(0) <= limit:
            return self._control(made[0], (), made[0][1], {})
        sensitivity = self._sensitivity()
        order = sorted(sensitivity, key=lambda layer: sum(sensitivity[layer].values()), reverse=True)
        few, many = 0, 1
        while with_kept(many) > limit:
            if many == len(order):
                raise ExportRefused(
                    f"Even with all layers in floats the rounded file loses {made[many][1]:.2%} on {self._images} "
                    f"validation images, more than `max_drop: {limit:g}` allows. Export this model in float32."
                )
            few, many = many, min(2 * many, len(order))
        while many - few > 1:
            middle = (few + many) // 2
            few, many = (few, middle) if with_kept(middle) <= limit else (middle, many)
        return self._control(made[many], tuple(order[:many]), made[0][1], sensitivity)

    def _control(
        self,
        made: tuple[onnx.ModelProto, float],
        layers: tuple[str, ...],
        whole_drop: float,
        sensitivity: dict[str, dict[str, float]],
    ) -> Control:
        return Control(made[0], layers, made[1], whole_drop, self._images, sensitivity)

    def _drop(self, model: onnx.ModelProto) -> float:
        """The loss of mean score; without labels the share of images that are answered otherwise."""
        task, expected, given = self.proof.task, self._expected, self._outputs(model, self._judged[0])
        if not self.proof.labelled:
            exact = dict.fromkeys(task.outputs, 0.0)
            return 1 - float(task.agreement(expected, given, exact).mean())
        scores = [task.score(task.decode(outputs), self._judged[1]).mean() for outputs in (expected, given)]
        return float(scores[0] - scores[1])

    @cached_property
    def _judged(self) -> tuple[list[np.ndarray], np.ndarray]:
        images, targets = self.proof.judging(JUDGED)
        return self._portions(images), targets

    @property
    def _images(self) -> int:
        return len(self._judged[1])

    @cached_property
    def _expected(self) -> Outputs:
        return self._outputs(self.whole, self._judged[0])

    def _sensitivity(self) -> dict[str, dict[str, float]]:
        clean = self.proof.calibration(_PROBED)
        noise = np.random.default_rng(0).normal(0, _NOISE, clean.shape)
        noisy = (clean + noise).round().clip(0, 255).astype(np.uint8)
        probes = {name: self._portions(images) for name, images in (("clean", clean), ("noise", noisy))}
        expected = {name: self._outputs(self.whole, portions) for name, portions in probes.items()}
        found = {}
        for layer in dict.fromkeys(self.nodes.values()):
            # Alone, and not all but this one: a value that is costly to round is so for the layers on both its sides.
            model = self.rounder([node for node, own in self.nodes.items() if own != layer])
            found[layer] = {
                name: error(expected[name], self._outputs(model, portions)) for name, portions in probes.items()
            }
        return found

    def _portions(self, images: np.ndarray) -> list[np.ndarray]:
        return [self.feed(images[start : start + self.portion]) for start in range(0, len(images), self.portion)]

    def _outputs(self, model: onnx.ModelProto, portions: Sequence[np.ndarray]) -> Outputs:
        session = open_session(model.SerializeToString(), settings=self.settings)
        entry, names = session.get_inputs()[0].name, self.proof.task.outputs
        parts = [session.run(None, {entry: portion}) for portion in portions]
        return {name: np.concatenate([part[place] for part in parts]) for place, name in enumerate(names)}


def error(expected: Outputs, given: Outputs) -> float:
    """The mean square of the difference of all outputs, relative to the square of the expected ones."""
    scale = sum(float(np.square(each, dtype=np.float64).sum()) for each in expected.values()) or 1.0
    return sum(float(np.square(given[name] - each, dtype=np.float64).sum()) for name, each in expected.items()) / scale
