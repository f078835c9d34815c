"""Classification: one class for each image, which is right or wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from edgecr.core.errors import UnsupportedModel
from edgecr.tasks.base import Answers, Outputs, Task, tasks

NO_ANSWER = -1
"""The choice of a model whose logits are not numbers; it is never right."""


class Classification(Task):
    """The class of the largest logit, and how sure the model is of it."""

    name: ClassVar[str] = "classification"
    metric: ClassVar[str] = "accuracy"
    outputs: ClassVar[tuple[str, ...]] = ("logits",)
    answers: ClassVar[tuple[str, ...]] = ("choices", "probabilities")
    right_or_wrong: ClassVar[bool] = True
    distance: ClassVar[str] = "KL"

    def decode(self, outputs: Outputs) -> Answers:
        """The chosen class of each image and its probability."""
        logits = outputs["logits"]
        if logits.ndim != 2 or not logits.shape[1]:
            raise UnsupportedModel(
                f"The model's output has the shape {logits.shape}; classification needs one row of logits an image."
            )
        usable = np.isfinite(logits).min(axis=1)
        safe = np.where(usable[:, None], logits, 0).astype(np.float64)
        exponent = np.exp(safe - safe.max(axis=1, keepdims=True))
        top = exponent.max(axis=1) / exponent.sum(axis=1)
        choices = np.where(usable, safe.argmax(axis=1), NO_ANSWER)
        return {
            "choices": choices.astype(np.int32),
            "probabilities": np.where(usable, top, 0).astype(np.float32),
        }

    def score(self, answers: Answers, targets: np.ndarray) -> np.ndarray:
        """1 where the chosen class is the label, else 0."""
        right: np.ndarray = answers["choices"] == targets
        return right.astype(np.float64)

    def targets(self, values: Sequence[Any]) -> np.ndarray:
        """Class indices."""
        return np.array(values, np.int64)

    def chance(self, targets: np.ndarray) -> float | None:
        """The share of the largest class: always answering it is right that often, and no guess more often."""
        return float(np.bincount(targets).max() / len(targets)) if len(targets) else None

    def constant(self, answers: Answers) -> float | None:
        """The share of the class that was chosen most often."""
        choices = answers["choices"]
        given = choices[choices != NO_ANSWER]
        return float(np.unique(given, return_counts=True)[1].max() / len(choices)) if len(given) else None

    def agreement(self, expected: Outputs, given: Outputs, tolerance: Mapping[str, float]) -> np.ndarray:
        """True where both choose the same class; a tie within the tolerance is the same, what is no number never."""
        logits, other = expected["logits"], given["logits"]
        margin = logits.max(axis=1) - logits[np.arange(len(logits)), other.argmax(axis=1)]
        within = margin <= tolerance["logits"]  # the margin is zero when both choose the same class
        agrees: np.ndarray = within & np.isfinite(other).all(axis=1)
        return agrees

    def same(self, one: Answers, other: Answers) -> np.ndarray:
        """True where both chose the same class, however sure they are; two models without an answer share none."""
        same: np.ndarray = (one["choices"] == other["choices"]) & (one["choices"] != NO_ANSWER)
        return same

    def divergence(self, baseline: Outputs, outputs: Outputs) -> np.ndarray:
        """KL(baseline || model) of the probabilities, in nats; NaN for models of different classes."""
        expected, given = (_log_probabilities(each["logits"]) for each in (baseline, outputs))
        if expected.shape != given.shape:
            return np.full(len(given), np.nan, np.float32)
        found: np.ndarray = (np.exp(expected) * (expected - given)).sum(axis=1)
        return found.clip(min=0).astype(np.float32)  # rounding may leave it a little below

    def certainty(self, answers: Answers) -> np.ndarray:
        """The probability of the chosen class."""
        return answers["probabilities"]

    def answer_text(self, answers: Answers, place: int, classes: Sequence[str]) -> str:
        """The chosen class by name."""
        return _class_name(classes, int(answers["choices"][place]))

    def target_text(self, targets: np.ndarray, place: int, classes: Sequence[str]) -> str:
        """The true class by name."""
        return _class_name(classes, int(targets[place]))


def _log_probabilities(logits: np.ndarray) -> np.ndarray:
    """The logarithms of the probabilities; NaN for an image whose logits are not numbers."""
    usable = np.isfinite(logits).all(axis=1)
    shifted = np.where(usable[:, None], logits, 0).astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    logarithms: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return np.where(usable[:, None], logarithms, np.nan)


def _class_name(classes: Sequence[str], index: int) -> str:
    if index < 0:
        return "no answer"
    return classes[index] if index < len(classes) else f"class {index}"


CLASSIFICATION: Task = tasks.register("classification")(Classification())
