"""The files and the code that a recipe reads besides its data, as hashes: parts of a run's and of a step's identity."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from edgecr.core.errors import FileProblem
from edgecr.core.files import fingerprint, sha256
from edgecr.models.external import own_source, refuse_code, source_of
from edgecr.recipe import Recipe
from edgecr.recipe.walk import declared_in, inside
from edgecr.training.context import Execution
from edgecr.training.losses.teachers import TeacherRun


def input_hashes(*declared: BaseModel) -> dict[str, str]:
    """The content hashes of every checkpoint file and run that a model or a step names."""
    found: dict[str, str] = {}
    for path in paths_in([each.model_dump() for each in declared]):
        subjects = [path / "baseline" / name for name in ("subject.json", "tensors.safetensors")]
        files = [path] if path.is_file() else [file for file in subjects if file.is_file()]
        if not files:
            raise FileProblem(f"{path} is neither a checkpoint file nor a finished run (from the recipe).")
        found[str(path)] = fingerprint([sha256(file) for file in files])
    return found


def paths_in(value: Any) -> Iterator[Path]:
    """Every path among plain values."""
    if isinstance(value, Path):
        yield value
    for inner in inside(value):
        yield from paths_in(inner)


def code_hashes(recipe: Recipe, execution: Execution) -> dict[str, dict[str, str]]:
    """The hashes of the files with the user's own code behind each model of a recipe; code must be allowed to run.

    A teacher's run brings no code along: what built its baseline must be named in the recipe too.
    """
    for teacher in declared_in(recipe, TeacherRun):
        teacher.refuse_unnamed_code()
    refuse_own_code(recipe, execution.allow_code)
    return {name: own_source(name) for name in sorted(own_models(recipe))}


def refuse_own_code(recipe: Recipe, allow_code: bool) -> None:
    """Raises for a recipe with models of the user's own where code may not run; nothing is loaded for it."""
    names = sorted(own_models(recipe))
    if names and not allow_code:
        refuse_code(names[0])


def own_models(recipe: Recipe) -> set[str]:
    """Every model in a recipe that is the user's own code: all that permission to run code is about."""
    return set(_own_models(recipe.model_dump()))


def _own_models(value: Any) -> Iterator[str]:
    """The same among plain values."""
    arch = value.get("arch") if isinstance(value, dict) else None
    if isinstance(arch, str) and source_of(arch) == "code":
        yield arch
    for inner in inside(value):
        yield from _own_models(inner)
