"""Shows every role the same corrupted images and keeps their raw answers, one file a condition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgecr.core.errors import FileProblem, WorkError
from edgecr.core.files import write_json
from edgecr.core.progress import Monitor
from edgecr.data.base import ImageSet
from edgecr.predictors.base import Predictor
from edgecr.robustness.conditions import CLEAN, Condition, Suite
from edgecr.robustness.corruptions import corrupt, library_versions
from edgecr.robustness.result import (
    QUESTION_FILE,
    RobustnessResult,
    check_answers,
    joined,
    question_key,
    read_answers,
    write_answers,
)
from edgecr.tasks import CLASSIFICATION, Answers, Outputs, Task
from edgecr.tasks.base import checked_scores

BATCH = 256


def evaluate(
    predictors: Mapping[str, Predictor],
    suite: Suite,
    image_set: ImageSet,
    folder: Path,
    *,
    indices: Sequence[int] | np.ndarray | None = None,
    seed: int = 0,
    identities: Mapping[str, str] | None = None,
    monitor: Monitor | None = None,
    task: Task = CLASSIFICATION,
) -> RobustnessResult:
    """Asks every role about every image of a suite; conditions that ``folder`` holds are not repeated.

    ``identities`` say what stands behind each role (a file's hash), so that stale answers are never kept.
    """
    monitor = monitor or Monitor()
    chosen = np.arange(len(image_set)) if indices is None else np.asarray(indices, dtype=np.int64)
    if not len(chosen):
        raise WorkError(f"Suite {suite.name!r} has no image to look at; give it at least one.")
    labels = np.asarray(image_set.labels)[chosen]
    roles = {role: (identities or {}).get(role, "") for role in predictors}
    plan = _plan(suite, task, chosen, labels, seed, roles)
    key = question_key(plan)
    answers: dict[str, dict[str, Answers]] = {}
    for condition in suite.conditions:
        file = folder / f"{condition}.npz"
        found = _kept(file, key, task, labels, monitor)
        if found is None:
            found = _answers(predictors, suite, condition, image_set, chosen, seed, monitor, task)
            for each in found.values():
                checked_scores(task, each, labels)
            write_answers(file, found, key)
        answers[condition] = found
    write_json(folder / QUESTION_FILE, plan | {"schema": 1, "key": key})
    return RobustnessResult(suite.name, seed, chosen, labels, answers, plan["roles"], key, task)


def _plan(
    suite: Suite, task: Task, chosen: np.ndarray, labels: np.ndarray, seed: int, roles: dict[str, str]
) -> dict[str, Any]:
    """The whole question; the usual task is left out of it, as defaults are everywhere."""
    named = {} if task is CLASSIFICATION else {"task": task.name}
    return named | {
        "suite": suite.name,
        "conditions": list(suite.conditions),
        "corruptions": suite.identity(),
        "seed": seed,
        "indices": chosen.tolist(),
        "labels": labels.tolist(),
        "roles": roles,
        "versions": library_versions(),
    }


def _kept(file: Path, key: str, task: Task, labels: np.ndarray, monitor: Monitor) -> dict[str, Answers] | None:
    """The answers of an earlier, interrupted evaluation, if they answer the same question."""
    if not file.is_file():
        return None
    try:
        answers = read_answers(file, key, task)
        check_answers(file, answers, task, labels)
        return answers
    except FileProblem as problem:
        monitor.warn(f"{problem} The condition is evaluated again.")
        return None


def _answers(
    predictors: Mapping[str, Predictor],
    suite: Suite,
    condition: str,
    image_set: ImageSet,
    chosen: np.ndarray,
    seed: int,
    monitor: Monitor,
    task: Task,
) -> dict[str, Answers]:
    parts: dict[str, list[Answers]] = {role: [] for role in predictors}
    with monitor.bar(f"{suite.name}: {condition}", total=len(chosen)) as bar:
        for start in range(0, len(chosen), BATCH):
            batch = chosen[start : start + BATCH]
            images = condition_images(suite, condition, image_set, batch, seed)
            for role, predictor in predictors.items():
                parts[role].append(_decoded(task, predictor.predict(images), role, len(batch)))
            bar.advance(len(batch))
    return {role: joined(pieces) for role, pieces in parts.items()}


def _decoded(task: Task, outputs: Outputs, role: str, images: int) -> Answers:
    answers = task.decode(task.named(outputs))
    for name in task.answers:
        if len(answers[name]) != images:
            raise WorkError(f"The {role} gave {len(answers[name])} {name} for {images} images.")
    return answers


def condition_images(
    suite: Suite, condition: str, image_set: ImageSet, indices: Sequence[int] | np.ndarray, seed: int
) -> np.ndarray:
    """The images of a condition, uint8 NHWC."""
    images = image_set.numpy(indices)
    if condition == CLEAN:
        return images
    meant = Condition.parse(condition)
    return corrupt(images, indices, suite.corruption(meant), seed, meant.severity)
