"""Images worth looking at: where compression changed the answer, or how a corruption looks."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from edgecr.core.files import read_json, refused_as, write_json

if TYPE_CHECKING:
    import numpy as np

    from edgecr.data.base import ImageSet
    from edgecr.robustness.result import RobustnessResult
    from edgecr.robustness.suites import Suite

LARGEST = 128
"""Pixels of the longer side; larger images are shrunk, so that a report stays small."""


@dataclass(frozen=True)
class Answer:
    """One model's answer to one image."""

    label: str
    probability: float
    right: bool


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
    """Up to ``each`` images a corruption, the worst changes first, none twice while others are left."""
    from edgecr.robustness.evaluate import condition_images

    chosen: list[Example] = []
    seen: set[int] = set()
    for condition in result.corruptions:
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
                    _name(classes, int(result.labels[place])),
                    _answers(result, condition, place, classes),
                    png_text(image_set.numpy(index)[0]),
                    png_text(spoiled),
                )
            )
    return chosen


def _ranking(result: RobustnessResult, condition: str) -> list[int]:
    """Lost answers first, then won ones, other disagreement, the rest; the most certain first in each."""
    import numpy as np

    first, last = result.roles[0], result.roles[-1]
    before, after = result.right(first, condition), result.right(last, condition)
    answers = result.answers[condition]
    differ = answers[first].choices != answers[last].choices
    order = np.select([before & ~after, after & ~before, differ], [0, 1, 2], 3)
    ranking: list[int] = np.lexsort((-answers[last].probabilities, order)).tolist()
    return ranking


def _answers(result: RobustnessResult, condition: str, place: int, classes: Sequence[str]) -> dict[str, Answer]:
    found = {}
    for role, answers in result.answers[condition].items():
        choice = int(answers.choices[place])
        found[role] = Answer(
            _name(classes, choice), round(float(answers.probabilities[place]), 4), choice == int(result.labels[place])
        )
    return found


def _name(classes: Sequence[str], index: int) -> str:
    if index < 0:
        return "no answer"
    return classes[index] if index < len(classes) else f"class {index}"


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
