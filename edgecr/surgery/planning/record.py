"""What a pruning decided, for people and reports: channels of each group before and after, and the figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from edgecr.core.errors import FileProblem
from edgecr.core.files import read_json, refused_as, write_json
from edgecr.core.options import Options
from edgecr.surgery.planning.amounts import LATENCY, WHOLE_LATENCY, in_words

FILE = "plan.json"
SHORT = 0.02
"""A pruning is short of its request if more than this part of what may remain remains beyond it."""


class Width(Options):
    """One group of channels."""

    group: str
    """Name of the first layer that makes them."""
    before: Annotated[int, Field(ge=1)]
    after: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _shrinks(self) -> Self:
        if self.after > self.before:
            raise ValueError(f"{self.group} cannot grow from {self.before} to {self.after} channels")
        return self


class Amount(Options):
    """One figure of the whole model, in whole units: bytes, or nanoseconds."""

    figure: str
    before: Annotated[int, Field(ge=1, lt=2**63)]
    after: Annotated[int, Field(ge=0, lt=2**63)]
    budget: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    """What was asked for, under the same counter."""

    @property
    def reached(self) -> float | None:
        """What remains, over what may remain; above 1 the pruning is short of its request."""
        return None if self.budget is None else self.after / max(1, self.budget)

    @property
    def short(self) -> bool:
        """Whether clearly more remains than was asked for."""
        return self.reached is not None and self.reached > 1 + SHORT

    def __str__(self) -> str:
        before, after = in_words(self.figure, self.before), in_words(self.figure, self.after)
        asked = f", {in_words(self.figure, self.budget)} allowed" if self.budget is not None else ""
        return f"{self.figure} {before} to {after} ({self.after / self.before:.1%} remain{asked})"


class PlanRecord(Options):
    """One pruning, from the model as it came to the model as it went."""

    schema_version: Literal[1] = 1
    device: str = ""
    """Whose latency was planned for."""
    widths: tuple[Width, ...] = ()
    amounts: tuple[Amount, ...] = ()
    estimated: tuple[str, ...] = ()
    """The layers of the last plan whose latency was interpolated, not measured, when it was chosen."""

    def save(self, folder: Path) -> None:
        """Writes ``plan.json``."""
        write_json(folder / FILE, self.model_dump(mode="json"))

    @property
    def asked(self) -> tuple[Amount, ...]:
        """The figures that were asked for; a latency is judged as it was measured, not by the table."""
        measured = any(one.figure == WHOLE_LATENCY for one in self.amounts)
        return tuple(one for one in self.amounts if one.budget is not None and not (measured and one.figure == LATENCY))

    @classmethod
    def load(cls, folder: Path) -> PlanRecord:
        """Reads ``plan.json``."""
        values = read_json(folder / FILE)
        if not isinstance(values, dict) or values.get("schema_version") != 1:
            raise FileProblem(f"{folder / FILE} was written by another version of EdgeCR.")
        with refused_as(f"{folder / FILE} is not the plan of a pruning"):
            return cls.parse(values)
