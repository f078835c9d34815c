"""What the fields of a group of settings mean, read from the strings below them in the source.

pydantic reads them too, but of every class as it is made, which takes a third of the time of checking a recipe.
"""

from __future__ import annotations

import ast
import inspect
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
    found = {}
    for field, text in zip(body, body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            if isinstance(text.value, ast.Constant) and isinstance(text.value.value, str):
                found[field.target.id] = inspect.cleandoc(text.value.value)
    return found
