"""Everything in a recipe that data without labels cannot give: found before any work."""

from __future__ import annotations

from collections.abc import Iterator

from edgecr.core.errors import RequestError
from edgecr.core.yaml_text import KeyPath, dotted
from edgecr.methods.base import check_labels
from edgecr.recipe.schema import Recipe
from edgecr.report.gates.quantities import check_labels as check_gate


def label_problems(recipe: Recipe) -> Iterator[tuple[KeyPath, str]]:
    """The place and the reason of each wish of a recipe whose data has no labels that only labels can fulfil."""
    if recipe.model.classes is None:
        text = "the data has no labels, so it does not tell the number of classes: give model.classes"
        yield ("model",), text
    for index, step in enumerate(recipe.steps):
        try:
            check_labels(step.name, step.method, labelled=False)
        except RequestError as error:
            yield ("steps", index, step.name), str(error)
    if recipe.prefer == "accuracy":
        yield ("prefer",), "the data has no labels: prefer latency or size"
    for name in recipe.gates:
        try:
            check_gate(name)
        except RequestError as error:
            yield ("gates", name), str(error)


def refuse_without_labels(recipe: Recipe) -> None:
    """Raises a RequestError with all of a recipe's wishes that only labels can fulfil."""
    if found := [f"{dotted(path)}: {text}" for path, text in label_problems(recipe)]:
        raise RequestError("\n".join(found))
