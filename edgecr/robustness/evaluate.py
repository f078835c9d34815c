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
from edgecr.robustness.corruptions import corrupt, library_versions
from edgecr.robustness.result import QUESTION_FILE, Answers, RobustnessResult, question_key, read_answers, write_answers
from edgecr.robustness.suites import CLEAN, Suite

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
) -> RobustnessResult:
    """Asks every role about every image of a suite; conditions that ``folder`` holds are not repeated.

    ``identities`` say what stands behind each role (a file's hash), so that stale answers are never kept.
    """
    monitor = monitor or Monitor()
    chosen = np.arange(len(image_set)) if indices is None else np.asarray(indices, dtype=np.int64)
    if not len(chosen):
        raise WorkError(f"Suite {suite.name!r} has no image to look at; give it at least one.")
    labels = np.asarray(image_set.labels)[chosen]
    plan = _plan(suite, chosen, labels, seed, {role: (identities or {}).get(role, "") for role in predictors})
    key = question_key(plan)
    answers: dict[str, dict[str, Answers]] = {}
    for condition in suite.conditions:
        file = folder / f"{condition}.npz"
        found = _kept(file, key, monitor)
        if found is None:
            found = _answers(predictors, suite, condition, image_set, chosen, seed, monitor)
            write_answers(file, found, key)
        answers[condition] = found
    write_json(folder / QUESTION_FILE, plan | {"schema": 1, "key": key})
    return RobustnessResult(suite.name, seed, chosen, labels, answers, plan["roles"], key)


def _plan(suite: Suite, chosen: np.ndarray, labels: np.ndarray, seed: int, roles: dict[str, str]) -> dict[str, Any]:
    return {
        "suite": suite.name,
        "conditions": list(suite.conditions),
        "corruptions": suite.lines(),
        "seed": seed,
        "indices": chosen.tolist(),
        "labels": labels.tolist(),
        "roles": roles,
        "versions": library_versions(),
    }


def _kept(file: Path, key: str, monitor: Monitor) -> dict[str, Answers] | None:
    """The answers of an earlier, interrupted evaluation, if they answer the same question."""
    if not file.is_file():
        return None
    try:
        return read_answers(file, key)
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
) -> dict[str, Answers]:
    parts: dict[str, list[Answers]] = {role: [] for role in predictors}
    with monitor.bar(f"{suite.name}: {condition}", total=len(chosen)) as bar:
        for start in range(0, len(chosen), BATCH):
            batch = chosen[start : start + BATCH]
            images = condition_images(suite, condition, image_set, batch, seed)
            for role, predictor in predictors.items():
                parts[role].append(Answers.of(predictor.predict(images)))
            bar.advance(len(batch))
    return {role: Answers.joined(pieces) for role, pieces in parts.items()}


def condition_images(
    suite: Suite, condition: str, image_set: ImageSet, indices: Sequence[int] | np.ndarray, seed: int
) -> np.ndarray:
    """The images of a condition, uint8 NHWC."""
    images = image_set.numpy(indices)
    if condition == CLEAN:
        return images
    corruption = next(each for each in suite.corruptions if each.name == condition)
    return corrupt(images, indices, corruption, seed)
