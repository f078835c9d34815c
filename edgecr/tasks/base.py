"""The contract of a task. Torch-free: tensors are only passed on, everything else is numpy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from edgecr.core.errors import UnsupportedModel, WorkError
from edgecr.core.registry import Registry

Outputs = Mapping[str, np.ndarray]
"""A model's outputs by name; each has one row for each image."""
Answers = Mapping[str, np.ndarray]
"""Decoded outputs by name, as they are stored; each has one row for each image."""


class Task(ABC):
    """A kind of question to a model: its outputs and answers, the score of an answer, and when two are the same."""

    name: ClassVar[str]
    metric: ClassVar[str]
    """The mean score, in words: ``accuracy``, …"""
    outputs: ClassVar[tuple[str, ...]]
    """Names of the outputs that a model has for this task, in order; an exported file bears the same ones."""
    answers: ClassVar[tuple[str, ...]]
    """Names of the arrays that ``decode`` gives."""
    right_or_wrong: ClassVar[bool] = False
    """True where every score is 0 or 1: intervals are then those of proportions."""
    distance: ClassVar[str] = ""
    """Short name of the figure that ``divergence`` gives; empty where the task has none."""

    @abstractmethod
    def decode(self, outputs: Outputs) -> Answers:
        """The answers in a batch of outputs, which bear the task's names."""

    @abstractmethod
    def score(self, answers: Answers, targets: np.ndarray) -> np.ndarray:
        """One number in [0, 1] for each image; 1 is an answer that leaves nothing to wish for."""

    def outputs_of(self, result: Any) -> dict[str, Any]:
        """The tensors that a module's ``forward`` returned, by name: one alone, several in order, or a mapping."""
        if isinstance(result, Mapping):
            return self._named(result)
        parts = tuple(result) if isinstance(result, tuple | list) else (result,)
        if len(parts) < len(self.outputs) or not all(hasattr(part, "shape") for part in parts):
            returned = ", ".join(type(part).__name__ for part in parts)
            raise UnsupportedModel(f"The model returns {returned}; {self._needs()}.")
        return dict(zip(self.outputs, parts))

    def named(self, outputs: Outputs) -> Outputs:
        """Any model's outputs under the task's names; a file from elsewhere may call its one output what it likes."""
        if len(self.outputs) == len(outputs) == 1:
            return {self.outputs[0]: next(iter(outputs.values()))}
        return self._named(outputs)

    def targets(self, values: Sequence[Any]) -> np.ndarray:
        """Targets that were stored as plain values, as the array that ``score`` takes."""
        return np.asarray(values)

    def chance(self, targets: np.ndarray) -> float | None:
        """The mean score that is reached without a look at the images; None where nobody can tell."""
        return None

    def constant(self, answers: Answers) -> float | None:
        """The largest share of images on which one answer, always given, is the same as these; None where none is."""
        return None

    def agreement(self, expected: Outputs, given: Outputs, tolerance: Mapping[str, float]) -> np.ndarray:
        """True for each image whose outputs stand for the same answer; ``tolerance`` is the noise of each output.

        Without a decision in it an answer is the same where all of its numbers are within the noise.
        """
        same = [
            (np.abs(expected[name].astype(np.float64) - given[name]) <= tolerance[name])
            .reshape(len(given[name]), -1)
            .all(axis=1)
            for name in self.outputs
        ]
        agrees: np.ndarray = np.all(same, axis=0)
        return agrees

    def same(self, one: Answers, other: Answers) -> np.ndarray:
        """True for each image that two models gave one answer for, to find the images whose answer changed."""
        equal = [(one[name] == other[name]).reshape(len(one[name]), -1).all(axis=1) for name in self.answers]
        unchanged: np.ndarray = np.all(equal, axis=0)
        return unchanged

    def divergence(self, baseline: Outputs, outputs: Outputs) -> np.ndarray | None:
        """For each image the distance of a model's outputs from the baseline's, 0 for equal ones; None for no measure.

        NaN stands for an image that one of them gave no answer for.
        """
        return None

    def certainty(self, answers: Answers) -> np.ndarray | None:
        """A probability for each answer, where the task has one."""
        return None

    def answer_text(self, answers: Answers, place: int, classes: Sequence[str]) -> str:
        """One image's answer in words."""
        return ", ".join(f"{name} {np.array2string(answers[name][place], precision=3)}" for name in self.answers)

    def target_text(self, targets: np.ndarray, place: int, classes: Sequence[str]) -> str:
        """One image's target in words."""
        return np.array2string(targets[place], precision=3)

    def _named(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        if any(name not in outputs for name in self.outputs):
            raise UnsupportedModel(f"The model's outputs are {_listed(outputs)}; {self._needs()}.")
        return {name: outputs[name] for name in self.outputs}

    def _needs(self) -> str:
        return f"the task {self.name!r} needs {_listed(self.outputs)}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names) or "none"


def arrays(tensors: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Tensors as numpy arrays in main memory; numbers of any float format become float32."""
    found = {}
    for name, tensor in tensors.items():
        exact = tensor.float() if tensor.is_floating_point() else tensor
        found[name] = exact.detach().cpu().numpy()
    return found


def checked_scores(task: Task, answers: Answers, targets: np.ndarray) -> np.ndarray:
    """The scores of a task; a WorkError where they are not one number in [0, 1] for each image."""
    scores = np.asarray(task.score(answers, targets), np.float64)
    if scores.shape != (len(targets),):
        raise WorkError(f"The task {task.name!r} gave scores of shape {scores.shape} for {len(targets)} images.")
    if not bool(((scores >= 0) & (scores <= 1)).all()):
        raise WorkError(f"The task {task.name!r} gave scores outside of [0, 1]; every image needs one inside.")
    return scores


tasks: Registry[Task] = Registry("task")
