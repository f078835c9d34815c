"""What a pruning decided, for people and reports: channels of each group before and after, and the figures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgecr.errors import FileProblem
from edgecr.files import read_json, refused_as, write_json
from edgecr.options import Options
from edgecr.surgery.amounts import in_words

if TYPE_CHECKING:
    from edgecr.surgery.removal import ChannelCut

FILE = "plan.json"
Widths = Iterable[tuple[str, int]]
"""Groups by name, with their channels."""


class Width(Options):
    """One group of channels."""

    group: str
    """Name of the first layer that makes them."""
    before: int
    after: int


class Amount(Options):
    """One figure of the whole model, in whole units: bytes, or nanoseconds."""

    figure: str
    before: int
    after: int
    budget: int | None = None
    """What was asked for, under the same counter."""

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

    @classmethod
    def load(cls, folder: Path) -> PlanRecord:
        """Reads ``plan.json``."""
        values = read_json(folder / FILE)
        if not isinstance(values, dict) or values.get("schema_version") != 1:
            raise FileProblem(f"{folder / FILE} was written by another version of EdgeCR.")
        with refused_as(f"{folder / FILE} is not the plan of a pruning"):
            return cls.parse(values)


def widths_after(before: Widths, cuts: Iterable[ChannelCut]) -> tuple[Width, ...]:
    """The channels of each group before and after some cuts."""
    removed: dict[str, int] = {}
    for cut in cuts:
        for one in cut.groups:
            removed[one.group] = removed.get(one.group, 0) + one.removed
    return tuple(Width(group=name, before=count, after=count - removed.get(name, 0)) for name, count in before)
