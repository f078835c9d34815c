"""Shows every role the same corrupted images and keeps their raw answers, one file a condition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgecr.core.errors import FileProblem, WorkError
from edgecr.core.files import write_json
from edgecr.core.progress import Monitor
from edgecr.data.base import ImageSet
from edgecr.predictors.base import Predictor
from edgecr.robustness.apply import corrupt
from edgecr.robustness.conditions import CLEAN, Condition, Suite
from edgecr.robustness.library import library_versions
from edgecr.robustness.result import (
    BASELINE,
    DIVERGENCE,
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
    labelled: bool = True,
    answered_by: Mapping[str, Any] | None = None,
) -> RobustnessResult:
    """Asks every role about every image of a suite; conditions that ``folder`` holds are not repeated.

    ``identities`` say what stands behind each role (a file's hash), and ``answered_by`` which board in which runtime,
    so that stale answers are never kept. Beside the
    answers of each role but the baseline lies how far its outputs are from the baseline's.
    """
    monitor = monitor or Monitor()
    chosen = np.arange(len(image_set)) if indices is None else np.asarray(indices, dtype=np.int64)
    if not len(chosen):
        raise WorkError(f"Suite {suite.name!r} has no image to look at; give it at least one.")
    labels = np.asarray(image_set.labels)[chosen]
    roles = {role: (identities or {}).get(role, "") for role in predictors}
    plan = question(suite, task, chosen, labels, seed, roles, labelled, answered_by)
    key = question_key(plan)
    answers: dict[str, dict[str, Answers]] = {}
    for condition in suite.conditions:
        file = folder / f"{condition}.npz"
        found = _kept(file, plan, key, task, labels, monitor)
        if found is None:
            found = _answers(predictors, suite, condition, image_set, chosen, seed, monitor, task)
            for each in found.values() if labelled else ():
                checked_scores(task, each, labels)
            write_answers(file, found, key)
        answers[condition] = found
    write_json(folder / QUESTION_FILE, plan | {"schema": 1, "key": key})
    return RobustnessResult(
        suite.name, seed, chosen, labels, answers, plan["roles"], key, task, labelled, answered_by or {}
    )


def question(
    suite: Suite,
    task: Task,
    chosen: np.ndarray,
    labels: np.ndarray,
    seed: int,
    roles: Mapping[str, str],
    labelled: bool,
    answered_by: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The whole question; what is usual is left out of it, as defaults are everywhere."""
    named: dict[str, Any] = {} if task is CLASSIFICATION else {"task": task.name}
    named |= {} if labelled else {"labelled": False}
    named |= {"answered_by": dict(answered_by)} if answered_by else {}
    named |= {"distance": task.distance} if task.distance and BASELINE in roles and len(roles) > 1 else {}
    return named | {
        "suite": suite.name,
        "conditions": list(suite.conditions),
        "corruptions": suite.identity(),
        "seed": seed,
        "indices": chosen.tolist(),
        "labels": labels.tolist(),
        "roles": dict(roles),
        "versions": library_versions(),
    }


def _kept(
    file: Path, plan: Mapping[str, Any], key: str, task: Task, labels: np.ndarray, monitor: Monitor
) -> dict[str, Answers] | None:
    """The answers of an earlier, interrupted evaluation, if they answer the same question."""
    if not file.is_file():
        return None
    try:
        answers = read_answers(file, key, task)
        check_answers(file, answers, task, labels, plan)
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
    parts: dict[str, list[dict[str, np.ndarray]]] = {role: [] for role in predictors}
    with monitor.bar(f"{suite.name}: {condition}", total=len(chosen)) as bar:
        for start in range(0, len(chosen), BATCH):
            batch = chosen[start : start + BATCH]
            images = condition_images(suite, condition, image_set, batch, seed)
            outputs = {role: task.named(predictor.predict(images)) for role, predictor in predictors.items()}
            for role, each in outputs.items():
                parts[role].append(_decoded(task, each, role, len(batch)))
            for role, distance in _distances(task, outputs, len(batch)):
                parts[role][-1][DIVERGENCE] = distance
            bar.advance(len(batch))
    return {role: joined(pieces) for role, pieces in parts.items()}


def _decoded(task: Task, outputs: Outputs, role: str, images: int) -> dict[str, np.ndarray]:
    answers = task.decode(outputs)
    for name in task.answers:
        if len(answers[name]) != images:
            raise WorkError(f"The {role} gave {len(answers[name])} {name} for {images} images.")
    return dict(answers)


def _distances(task: Task, outputs: Mapping[str, Outputs], images: int) -> Iterator[tuple[str, np.ndarray]]:
    """Each role but the baseline, and how far its outputs are from the baseline's; whole outputs are never stored."""
    if not task.distance or BASELINE not in outputs:
        return
    for role, each in outputs.items():
        if role != BASELINE:
            found = task.divergence(outputs[BASELINE], each)
            if found is None or found.shape != (images,):
                raise WorkError(f"The task {task.name!r} gave no {task.distance} for each of {images} images.")
            yield role, found.astype(np.float32)


def condition_images(
    suite: Suite, condition: str, image_set: ImageSet, indices: Sequence[int] | np.ndarray, seed: int
) -> np.ndarray:
    """The images of a condition, uint8 NHWC."""
    images = image_set.numpy(indices)
    if condition == CLEAN:
        return images
    meant = Condition.parse(condition)
    return corrupt(images, indices, suite.corruption(meant), seed, meant.severity)
