"""Raw answers under every condition, and the figures derived from them."""

from __future__ import annotations

import hashlib
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgecr.core.errors import FileProblem, RequestError, WorkError
from edgecr.core.estimate import Estimate
from edgecr.core.files import fingerprint, opened, read_json, replacing
from edgecr.core.names import inside
from edgecr.robustness.conditions import CLEAN, MEAN, averages
from edgecr.robustness.statistics import (
    mean_difference,
    mean_distance,
    mean_share,
    paired_difference,
    wilson,
)
from edgecr.tasks import CLASSIFICATION, Answers, Task, tasks
from edgecr.tasks.base import checked_scores

BASELINE = "baseline"
"""The role that the others' outputs are compared with."""
DIVERGENCE = "divergence from baseline"
"""The array beside a role's answers that says how far its outputs are from the baseline's, by the task's measure."""
QUESTION_FILE = "robustness.json"
"""The file with the question that every role was asked; written when all conditions are answered."""


def joined(parts: Sequence[Answers]) -> Answers:
    """The answers to consecutive batches as one."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@dataclass(frozen=True)
class RobustnessResult:
    """Every role's raw answers to one suite, condition -> role; ``clean`` is one of the conditions."""

    suite: str
    seed: int
    indices: np.ndarray
    labels: np.ndarray
    answers: Mapping[str, Mapping[str, Answers]]
    models: Mapping[str, str] = field(default_factory=dict)
    """The models that answered: the hash of each role's file."""
    key: str = ""
    """The question: suite, seed, images and models, as one hash."""
    task: Task = CLASSIFICATION
    labelled: bool = True
    """False where the labels are stand-ins: there are no scores, only agreement."""
    answered_by: Mapping[str, Any] = field(default_factory=dict)
    """The board that answered, its runtime and the version of that; empty for this machine."""

    @property
    def corruptions(self) -> tuple[str, ...]:
        """The conditions without ``clean``."""
        return tuple(condition for condition in self.answers if condition != CLEAN)

    @property
    def figures(self) -> dict[str, tuple[str, ...]]:
        """The figures of the suite, and the conditions that each is an average over."""
        return averages(self.answers)

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that answered."""
        return tuple(self.answers[CLEAN])

    def scores(self, role: str, condition: str) -> np.ndarray:
        """The score of each image, in [0, 1]; in classification 1 where the role's choice is the label."""
        if not self.labelled:
            raise RequestError("These images have no labels, so there is no accuracy: ask for agreement.")
        return checked_scores(self.task, self.answers[condition][role], self.labels)

    def accuracy(self, role: str, condition: str, confidence: float = 0.95) -> Estimate:
        """The mean score under one condition; Wilson's interval where answers are right or wrong."""
        scores = self.scores(role, condition)
        if self.task.right_or_wrong:
            return wilson(int(scores.sum()), len(scores), confidence)
        return mean_share(scores, confidence, self.seed)

    def mean_accuracy(self, role: str, confidence: float = 0.95, figure: str = MEAN) -> Estimate:
        """The mean score over several conditions, bootstrapped over images; over all but ``clean`` by default."""
        return mean_share(self._mean_scores(role, figure), confidence, self.seed)

    def delta(
        self,
        condition: str,
        confidence: float = 0.95,
        baseline: str = "baseline",
        candidate: str = "candidate",
    ) -> Estimate:
        """Candidate's mean score minus the baseline's, from the paired answers.

        The interval is Tango's where answers are right or wrong, else bootstrapped over images.
        """
        before, after = self.scores(baseline, condition), self.scores(candidate, condition)
        if self.task.right_or_wrong:
            gained, lost = int((after > before).sum()), int((after < before).sum())
            return paired_difference(gained, lost, len(before), confidence)
        return mean_difference(after - before, confidence, self.seed)

    def mean_delta(
        self,
        confidence: float = 0.95,
        baseline: str = "baseline",
        candidate: str = "candidate",
        figure: str = MEAN,
    ) -> Estimate:
        """The difference averaged over several conditions, bootstrapped over images."""
        gained = self._mean_scores(candidate, figure) - self._mean_scores(baseline, figure)
        return mean_difference(gained, confidence, self.seed)

    def agreement(
        self, condition: str, confidence: float = 0.95, baseline: str = BASELINE, candidate: str = "candidate"
    ) -> Estimate:
        """The share of images that both gave one answer for, with Wilson's interval."""
        same = self._same(condition, baseline, candidate)
        return wilson(int(same.sum()), len(same), confidence)

    def mean_agreement(
        self,
        confidence: float = 0.95,
        baseline: str = BASELINE,
        candidate: str = "candidate",
        figure: str = MEAN,
    ) -> Estimate:
        """The agreement averaged over several conditions, bootstrapped over images."""
        shares = np.mean([self._same(name, baseline, candidate) for name in self.figures[figure]], axis=0)
        return mean_share(shares, confidence, self.seed)

    def divergence(self, condition: str, confidence: float = 0.95, candidate: str = "candidate") -> Estimate | None:
        """The mean distance of an image's outputs from the baseline's, bootstrapped over images.

        None where it was not taken, or where it is not finite for each image.
        """
        return self._divergence((condition,), candidate, confidence)

    def mean_divergence(
        self, confidence: float = 0.95, candidate: str = "candidate", figure: str = MEAN
    ) -> Estimate | None:
        """The divergence averaged over several conditions, bootstrapped over images."""
        return self._divergence(self.figures[figure], candidate, confidence)

    def constant(self, figure: str) -> float | None:
        """The agreement that is reached without a look at the images, by always giving the baseline's commonest answer.

        The mean over the conditions of a figure; None where nobody can tell.
        """
        shares = [self.task.constant(self.answers[name][BASELINE]) for name in self.figures[figure]]
        known = [share for share in shares if share is not None]
        return float(np.mean(known)) if len(known) == len(shares) else None

    def _same(self, condition: str, baseline: str, candidate: str) -> np.ndarray:
        answers = self.answers[condition]
        return self.task.same(answers[baseline], answers[candidate])

    def _divergence(self, conditions: Sequence[str], candidate: str, confidence: float) -> Estimate | None:
        stored = [self.answers[name][candidate].get(DIVERGENCE) for name in conditions]
        taken = [each.astype(np.float64) for each in stored if each is not None]
        if len(taken) < len(stored) or not all(np.isfinite(each).all() for each in taken):
            return None
        return mean_distance(np.mean(taken, axis=0), confidence, self.seed)

    def _mean_scores(self, role: str, figure: str) -> np.ndarray:
        share: np.ndarray = np.mean([self.scores(role, name) for name in self.figures[figure]], axis=0)
        return share

    @classmethod
    def load(cls, folder: Path) -> RobustnessResult:
        """Reads what ``evaluate`` left in a folder; anything that does not fit together is a FileProblem."""
        file = folder / QUESTION_FILE
        plan = read_json(file)
        if not isinstance(plan, dict) or plan.get("schema") != 1:
            found = plan.get("schema") if isinstance(plan, dict) else None
            raise FileProblem(f"{folder} was written by another version of EdgeCR (schema {found}).")
        try:
            if plan["key"] != question_key(plan):
                raise FileProblem(f"{file} was changed after it was written.")
            task = _task(file, plan.get("task", CLASSIFICATION.name))
            labels = task.targets(plan["labels"])
            answers = {}
            for name in plan["conditions"]:
                stored = inside(folder, f"{name}.npz")
                answers[name] = read_answers(stored, plan["key"], task)
                check_answers(stored, answers[name], task, labels, plan)
            labelled = plan.get("labelled", True)
            if not isinstance(labelled, bool):
                raise FileProblem(f"{file} does not say whether the images have labels.")
            indices, models, seed = np.array(plan["indices"], np.int64), dict(plan["roles"]), plan["seed"]
            if CLEAN not in answers or any(set(roles) != set(models) for roles in answers.values()):
                raise FileProblem(f"{file} tells of other models than the ones that answered.")
            if not isinstance(seed, int) or seed < 0:
                raise FileProblem(f"{file} has no seed.")
            board = dict(plan.get("answered_by", {}))
            return cls(plan["suite"], seed, indices, labels, answers, models, plan["key"], task, labelled, board)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise FileProblem(f"{file} is damaged: {error!r}.") from error


def question_key(plan: Mapping[str, Any]) -> str:
    """The hash of everything that a suite's answers depend on."""
    return fingerprint({name: value for name, value in plan.items() if name not in ("schema", "key")})


def _task(file: Path, name: str) -> Task:
    if name not in tasks:
        raise FileProblem(f"{file} holds answers to the task {name!r}, which is not known here.")
    return tasks.get(name)


def write_answers(file: Path, answers: Mapping[str, Answers], key: str) -> None:
    """Writes one condition atomically; ``key`` says which question was answered."""
    arrays: dict[str, Any] = {f"{role}.{part}": array for role, each in answers.items() for part, array in each.items()}
    with replacing(file) as temporary, temporary.open("wb") as written:
        np.savez_compressed(written, key=np.array(key), digest=np.array(_digest(arrays)), **arrays)


_NO_ANSWERS = (
    ValueError,
    KeyError,
    AttributeError,
    TypeError,
    EOFError,
    SyntaxError,
    MemoryError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
    tokenize.TokenError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""Exceptions of numpy, zipfile and zlib for a damaged archive: each part of the format raises its own."""


def read_answers(file: Path, key: str, task: Task = CLASSIFICATION) -> dict[str, Answers]:
    """Reads one condition; a damaged file, or one that answers another question, is a FileProblem."""
    try:
        with opened(file) as content, np.load(content, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        told, digest = str(arrays.pop("key")), str(arrays.pop("digest", ""))
        if told != key:
            raise FileProblem(f"{file} answers another question (other images, models or seed).")
        if digest != _digest(arrays):
            raise FileProblem(f"{file} was changed after it was written.")
        roles = dict.fromkeys(name.rpartition(".")[0] for name in arrays)
        parts = {role: [part for part in (DIVERGENCE,) if f"{role}.{part}" in arrays] for role in roles}
        return {role: {part: arrays[f"{role}.{part}"] for part in (*task.answers, *parts[role])} for role in roles}
    except _NO_ANSWERS as error:
        raise FileProblem(f"{file} is damaged: {error}.") from error


def check_answers(
    file: Path, answers: Mapping[str, Answers], task: Task, labels: np.ndarray, plan: Mapping[str, Any]
) -> None:
    """Refuses answers that are not one for each image, that cannot be scored, or that lack what the plan asks for."""
    for role, each in answers.items():
        if not _one_for_each(each, task, labels, plan):
            raise FileProblem(f"{file} does not hold one answer of the {role} for each image.")
        distance = each.get(DIVERGENCE)
        wanted = "distance" in plan and role != BASELINE
        if wanted != (distance is not None) or (distance is not None and distance.dtype != np.float32):
            raise FileProblem(f"{file} does not hold how far the {role} is from the baseline, as its question says.")


def _one_for_each(answers: Answers, task: Task, labels: np.ndarray, plan: Mapping[str, Any]) -> bool:
    try:
        if not all(array.ndim and len(array) == len(labels) for array in answers.values()):
            return False
        if plan.get("labelled", True):
            checked_scores(task, answers, labels)
    except (WorkError, TypeError, ValueError):
        return False
    return True


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    """The answers as one hash, so that an interrupted evaluation only goes on from what it wrote itself."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
