"""Images worth looking at: where compression changed the answer, or how a corruption looks."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from edgecr.core.files import read_json, refused_as, write_json
from edgecr.robustness.conditions import Condition

if TYPE_CHECKING:
    import numpy as np

    from edgecr.data.base import ImageSet
    from edgecr.robustness.conditions import Suite
    from edgecr.robustness.result import RobustnessResult

UNKNOWN = "no label"
"""The label of an image whose right answer nobody knows."""
LARGEST = 128
"""Pixels of the longer side; larger images are shrunk, so that a report stays small."""


@dataclass(frozen=True)
class Answer:
    """One model's answer to one image."""

    label: str
    probability: float | None
    """None where the task gives none."""
    right: bool | None
    """None where answers are graded instead of right or wrong, and where nobody knows what is right."""


@dataclass(frozen=True)
class Example:
    """One corrupted image, what it looked like before, and what each role saw in it."""

    suite: str
    condition: str
    index: int
    label: str
    answers: dict[str, Answer] = field(default_factory=dict)
    clean_png: str = ""
    png: str = ""
    """PNG files in base64."""


def pick_examples(
    result: RobustnessResult, suite: Suite, image_set: ImageSet, classes: Sequence[str], each: int = 3
) -> list[Example]:
    """Up to ``each`` images a corruption at its highest severity, worst changes first.

    No image is shown twice while others are left.
    """
    from edgecr.robustness.evaluate import condition_images

    chosen: list[Example] = []
    seen: set[int] = set()
    for condition in _strongest(result.corruptions):
        places = _ranking(result, condition)
        fresh = [place for place in places if place not in seen] or places
        for place in fresh[:each]:
            seen.add(place)
            index = [int(result.indices[place])]
            spoiled = condition_images(suite, condition, image_set, index, result.seed)[0]
            chosen.append(
                Example(
                    result.suite,
                    condition,
                    index[0],
                    result.task.target_text(result.labels, place, classes) if result.labelled else UNKNOWN,
                    _answers(result, condition, place, classes),
                    png_text(image_set.numpy(index)[0]),
                    png_text(spoiled),
                )
            )
    return chosen


def _strongest(conditions: Iterable[str]) -> list[str]:
    """One condition of each corruption: its highest severity."""
    found: dict[str, Condition] = {}
    for condition in map(Condition.parse, conditions):
        best = found.get(condition.corruption)
        if best is None or (condition.severity or 0) > (best.severity or 0):
            found[condition.corruption] = condition
    return [condition.name for condition in found.values()]


def _ranking(result: RobustnessResult, condition: str) -> list[int]:
    """Lost answers first, then won ones, other disagreement, the rest; the most certain, or most changed, first."""
    import numpy as np

    first, last = result.roles[0], result.roles[-1]
    before, after = (_scores(result, role, condition) for role in (first, last))
    answers, task = result.answers[condition], result.task
    differ = ~task.same(answers[first], answers[last])
    order = np.select([after < before, after > before, differ], [0, 1, 2], 3)
    certainty = task.certainty(answers[last])
    first_key = before - after if certainty is None else certainty
    ranking: list[int] = np.lexsort((-first_key, order)).tolist()
    return ranking


def _scores(result: RobustnessResult, role: str, condition: str) -> np.ndarray:
    """The scores; all alike where nobody knows the right answers."""
    import numpy as np

    return result.scores(role, condition) if result.labelled else np.zeros(len(result.labels))


def _answers(result: RobustnessResult, condition: str, place: int, classes: Sequence[str]) -> dict[str, Answer]:
    found, task = {}, result.task
    for role, answers in result.answers[condition].items():
        label, certainty = task.answer_text(answers, place, classes), task.certainty(answers)
        score = float(result.scores(role, condition)[place]) if result.labelled else None
        if score is not None and not task.right_or_wrong:
            label += f" ({task.metric} {score:.2f})"
        found[role] = Answer(
            label,
            None if certainty is None else round(float(certainty[place]), 4),
            score == 1 if score is not None and task.right_or_wrong else None,
        )
    return found


def save_examples(path: Path, examples: Sequence[Example]) -> None:
    """Writes the chosen examples beside the answers they come from."""
    write_json(path, [asdict(example) for example in examples])


def load_examples(path: Path) -> list[Example]:
    """Reads what ``save_examples`` wrote, nothing if it wrote nothing; damage is a FileProblem."""
    if not path.is_file():
        return []
    adapter: TypeAdapter[list[Example]] = TypeAdapter(list[Example])
    with refused_as(f"{path} does not hold examples"):
        return adapter.validate_python(read_json(path))


def png_text(image: np.ndarray) -> str:
    """A uint8 HWC image as a small PNG in base64."""
    from PIL import Image

    picture = Image.fromarray(image)
    picture.thumbnail((LARGEST, LARGEST))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
