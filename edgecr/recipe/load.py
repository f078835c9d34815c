"""Reads a recipe: the file, the recipes it extends, its ``set``, and overrides from the command line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from edgecr.core import builtin
from edgecr.core.errors import FileProblem, Problem, RecipeError, RequestError
from edgecr.core.yaml_text import Document, decoded, parse_yaml, read_bytes, read_yaml
from edgecr.recipe.check import LONGEST, checked
from edgecr.recipe.merge import merged, put
from edgecr.recipe.schema import Recipe

DEEPEST_EXTENDS = 16


def load_recipe(name: str, overrides: Iterable[str] = ()) -> Recipe:
    """Reads a recipe by path or shipped name, applies ``a.b=c`` overrides and checks it whole."""
    return checked(gather(builtin.find("recipes", name), overrides))


def gather(file: Path, overrides: Iterable[str] = ()) -> Document:
    """One document from a recipe file, the recipes it extends and the overrides, innermost last."""
    document = _extended(file, ())
    for text in overrides:
        _override(document, text)
    return document


def _extended(file: Path, seen: tuple[Path, ...]) -> Document:
    if file.resolve() in seen:
        raise RecipeError([Problem(f"{file}:1", "extends", "the recipes extend one another in a circle")])
    if len(seen) == DEEPEST_EXTENDS:
        raise RecipeError([Problem(f"{file}:1", "extends", f"more than {DEEPEST_EXTENDS} recipes extend one another")])
    document = read_yaml(file)
    values = document.values
    if not isinstance(values, dict):
        return document
    changes = values.pop("set", None) or {}
    parent = values.pop("extends", None)
    if parent is not None:
        if not isinstance(parent, str):
            raise RecipeError([Problem(document.place(("extends",)), "extends", "must be one recipe's name or path")])
        try:
            base = _extended(builtin.find("recipes", parent, file.parent), (*seen, file.resolve()))
        except (FileProblem, RequestError) as error:
            if isinstance(error, RecipeError):
                raise
            raise RecipeError([Problem(document.place(("extends",)), "extends", str(error))]) from error
        document = merged(base, document)
    if not isinstance(changes, dict):
        raise RecipeError([Problem(document.place(("set",)), "set", "must map key paths to values")])
    if len(changes) > LONGEST:
        raise RecipeError([Problem(document.place(("set",)), "set", f"has more than {LONGEST} entries")])
    for path, value in changes.items():
        put(document, path, value, document.place(("set", path)))
    return document


def _override(document: Document, text: str) -> None:
    path, equals, value = text.partition("=")
    where = f"--set {text}"
    if not equals or not path:
        raise RequestError(f"{where}: write it as KEY.PATH=VALUE, for example --set seed=1")
    put(document, path, parse_yaml(value, where).values if value.strip() else None, where)


def purpose(file: Path) -> str:
    """The purpose that a YAML states in its opening comment."""
    lines = []
    for line in decoded(read_bytes(file), file).splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# ").rstrip())
    text = " ".join(lines)
    _, found, stated = text.partition("Purpose:")
    return stated.partition("Command:")[0].strip() if found else text


def source_purpose(name: str) -> str:
    """The purpose that a recipe named on the command line states."""
    return purpose(builtin.find("recipes", name))
