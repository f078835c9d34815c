"""The meanings of the fields of a group of settings, read from the strings below them in the source.

pydantic reads them too, but of every class as it is made, which takes a third of the time of checking a recipe.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from functools import cache


@cache
def meanings(kind: type) -> dict[str, str]:
    """The text below each field, by the field's name, those of the bases included."""
    found: dict[str, str] = {}
    for part in reversed(kind.__mro__):
        found.update(_own(part))
    return found


def _own(part: type) -> dict[str, str]:
    """The texts below the fields that one class adds; none where its source is not at hand."""
    if part.__module__.split(".")[0] == "pydantic" or "__annotations__" not in part.__dict__:
        return {}
    try:
        source = textwrap.dedent(inspect.getsource(part))
    except (OSError, TypeError):
        return {}
    body = next(node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)).body
    pairs = itertools.pairwise(body)
    return {name: text for name, text in map(_named, pairs) if text is not None}


def _named(pair: tuple[ast.stmt, ast.stmt]) -> tuple[str, str | None]:
    """The name of a field and the text below it; no text where the two are anything else."""
    match pair:
        case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
            return name, inspect.cleandoc(text)
    return "", None
