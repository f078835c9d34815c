"""Finding declarations of one kind anywhere in a recipe, and what a step needs because of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import BaseModel

from edgecr.methods.base import Method
from edgecr.training.options import TrainOptions

Kind = TypeVar("Kind", bound=BaseModel)


def declared_in(value: Any, kind: type[Kind]) -> Iterator[Kind]:
    """Every declaration of a kind in a declared value, the value itself included."""
    if isinstance(value, kind):
        yield value
    for inner in inside(value):
        yield from declared_in(inner, kind)


def inside(value: Any) -> Iterator[Any]:
    """The values directly inside of a declaration, a mapping or a list."""
    if isinstance(value, BaseModel):
        yield from (inner for _, inner in value)
    elif isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list | tuple):
        yield from value


def reads_baseline(step: BaseModel) -> bool:
    """True for a step whose method needs the run's baseline, or has a training whose loss does."""
    by_loss = any(training.minimised.reads_baseline for training in declared_in(step, TrainOptions))
    return by_loss or any(isinstance(one, Method) and one.reads_baseline for one in declared_in(step, BaseModel))
