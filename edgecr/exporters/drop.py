"""The loss of a rounded file against float32 on validation images, which ``max_drop`` limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from edgecr.core.errors import ExportRefused
from edgecr.data.views import ProofData
from edgecr.tasks import Outputs
from edgecr.tasks.base import checked_scores

_JUDGED = 1000
"""Validation images, at most, that the drop is measured on."""
_DIGITS = 12
"""Digits of a drop: a difference of shares such as 0.9 - 0.85 is else a little more than the limit that it equals."""

Feed = Callable[[np.ndarray], np.ndarray]
"""Makes the input of the file out of uint8 images."""
Asked = Callable[[Any, Sequence[np.ndarray]], list[Sequence[np.ndarray]]]
"""The outputs of a model, in their order, for each portion of its input."""


@dataclass
class DropMeter:
    """The measurement of the drop of one model's rounded files, whatever their format."""

    whole: Any
    """The model in float32."""
    proof: ProofData
    feed: Feed
    portion: int
    """Images that a model takes at once."""
    ask: Asked

    def of(self, model: Any) -> float:
        """The loss of mean score; without labels the share of images that are answered otherwise."""
        task, given = self.proof.task, self.outputs(model, self.judged)
        if not self.proof.labelled:
            exact = dict.fromkeys(task.outputs, 0.0)
            return round(1 - float(task.agreement(self._expected, given, exact).mean()), _DIGITS)
        before, after = (self._score(outputs) for outputs in (self._expected, given))
        return round(before - after, _DIGITS)

    @property
    def judged(self) -> list[np.ndarray]:
        """The validation images in portions, as the model takes them."""
        return self._held[0]

    @property
    def images(self) -> int:
        """The number of those images."""
        return len(self._held[1])

    def portions(self, images: np.ndarray) -> list[np.ndarray]:
        """Images as the model takes them, so many at once as it may."""
        return [self.feed(images[start : start + self.portion]) for start in range(0, len(images), self.portion)]

    def outputs(self, model: Any, portions: Sequence[np.ndarray]) -> Outputs:
        """The named outputs of a model for all portions."""
        parts = self.ask(model, portions)
        return {
            name: np.concatenate([part[place] for part in parts]) for place, name in enumerate(self.proof.task.outputs)
        }

    def refused(self, drop: float, limit: float) -> ExportRefused:
        """The error for a model whose drop is beyond the limit with every layer in floats."""
        return ExportRefused(
            f"Even with all layers in floats the rounded file loses {drop:.2%} on {self.images} "
            f"validation images, more than `max_drop: {limit:g}` allows. Export this model in float32."
        )

    def _score(self, outputs: Outputs) -> float:
        task = self.proof.task
        return float(checked_scores(task, task.decode(outputs), self._held[1]).mean())

    @cached_property
    def _held(self) -> tuple[list[np.ndarray], np.ndarray]:
        images, targets = self.proof.judging(_JUDGED)
        return self.portions(images), targets

    @cached_property
    def _expected(self) -> Outputs:
        return self.outputs(self.whole, self.judged)
