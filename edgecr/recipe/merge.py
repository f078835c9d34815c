"""Documents laid over one another: a recipe over what it extends, options over a preset, single values by path."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

from edgecr.core.errors import Problem, RecipeError
from edgecr.core.yaml_text import DEEPEST, Document, KeyPath, dotted


def merged(base: Document, top: Document) -> Document:
    """Mappings are merged key by key; anything else in ``top`` replaces what ``base`` says."""
    values = overlaid(base.values, top.values)
    return Document(values, base.places | top.places)


def overlaid(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of ``base`` with the keys of ``top``, mapping by mapping."""
    values = copy.deepcopy(dict(base))
    for key, value in top.items():
        inner = values.get(key)
        values[key] = overlaid(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return values


def put(document: Document, path: str, value: Any, where: str) -> None:
    """Sets the value at a dotted path, making mappings on the way; list entries must exist."""
    parts: list[str | int] = [int(part) if re.fullmatch(r"\d+", part) else part for part in path.split(".")]
    if len(parts) > DEEPEST:
        raise RecipeError([Problem(where, "", f"a key path has at most {DEEPEST} parts")])
    here: Any = document.values
    keys: KeyPath = ()
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        if isinstance(here, list) and (not isinstance(part, int) or part >= len(here)):
            raise RecipeError([Problem(where, dotted(tuple(parts[: depth + 1])), f"the list has {len(here)} entries")])
        if not isinstance(here, dict | list):
            raise RecipeError([Problem(where, path, f"{dotted(tuple(parts[:depth]))} is not a mapping")])
        key: Any = part if isinstance(here, list) else str(part)
        if last:
            here[key] = value
        else:
            if isinstance(here, dict) and here.get(key) is None:
                if isinstance(parts[depth + 1], int):
                    raise RecipeError([Problem(where, path, _no_list(parts, depth))])
                here[key] = {}
            here = here[key]
        keys = (*keys, key)
    for known in [known for known in document.places if known[: len(keys)] == keys]:
        del document.places[known]
    document.places[keys] = where


def _no_list(parts: Sequence[str | int], depth: int) -> str:
    """The advice for an entry of a list that is not written out."""
    place = dotted(tuple(parts[: depth + 1]))
    return f"there is no list {place} to change an entry of; give it whole, for example {place}=[…]"
