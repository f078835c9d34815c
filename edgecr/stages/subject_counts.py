"""The parameters and MACs of a subject, counted once when it is saved: judging a run need not build its model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field
from typing_extensions import Self

from edgecr.core.files import read_json, refused_as, write_json
from edgecr.core.options import Options

COUNTS = "counts.json"
"""The file beside a subject."""
Whole = Annotated[int, Field(ge=0, lt=2**63)]


class WeightFigures(Options):
    """All weights of a subject: how many are not zero, and their bytes in each form of storage."""

    nonzeros: Whole
    sparse_macs: Whole
    """Multiply-accumulates for one image with weights that are not zero."""
    without_places: Whole
    """Bytes as papers count them: 4 for a weight that is left, a bit for a binary one, none for their places."""
    dense: Whole
    mask: Whole
    gaps: Whole
    signs: Whole
    compact: Whole


class SubjectCounts(Options):
    """A subject in words, its parameters, and its multiply-accumulates for one image."""

    schema_version: int = Field(default=1, ge=1, le=1)
    architecture: str
    params: Whole
    macs: Whole
    weights: WeightFigures | None = None
    """None in runs from before weights were counted."""

    def save(self, folder: Path) -> None:
        """Writes the counts beside the subject."""
        write_json(folder / COUNTS, self.model_dump(mode="json"))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Reads the counts beside a subject; missing or damaged ones are a FileProblem."""
        with refused_as(f"{folder / COUNTS} does not hold the counts of a subject"):
            return cls.parse(read_json(folder / COUNTS))
