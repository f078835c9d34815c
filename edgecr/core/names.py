"""Names that become file names: one pattern for recipes, devices, targets, suites and labels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field

from edgecr.core.errors import FileProblem, RequestError

LONGEST = 80
PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
"""Letters, digits, ``_``, ``.`` and ``-``, never first a dot: no separator, no parent folder, no hidden file."""

Name = Annotated[str, Field(pattern=PATTERN, max_length=LONGEST)]
"""The field type of every declared name."""

_PATTERN = re.compile(PATTERN[:-1] + r"\Z")


def is_name(text: object) -> bool:
    """True for text that may become a part of a path."""
    return isinstance(text, str) and len(text) <= LONGEST and _PATTERN.match(text) is not None


def as_name(text: str) -> str:
    """The text as a part of the name of a file or a label."""
    kept = "".join(each if each.isascii() and (each.isalnum() or each in "_.-") else "-" for each in text)
    return kept.lstrip("_.-")[: LONGEST // 3] or "candidate"


def not_a_name(kind: str, text: str) -> RequestError:
    """The refusal of a text that could leave its folder."""
    return RequestError(
        f"{text[:LONGEST]!r} cannot be the name of a {kind}: use letters, digits, '_', '.' and '-', "
        f"a letter or digit first, at most {LONGEST} characters."
    )


def inside(folder: Path, *parts: str) -> Path:
    """A path below a folder, from parts that a file may have given; FileProblem for one that leads out of it."""
    for part in parts:
        steps = part.split("/") if isinstance(part, str) else [""]
        if any(step in ("", ".", "..") or "\\" in step or "\0" in step for step in steps):
            raise FileProblem(f"{folder} names a file outside of itself: {part!r}. Its records are damaged or foreign.")
    return folder.joinpath(*parts)
