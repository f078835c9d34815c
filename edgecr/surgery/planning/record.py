"""The record of a pruning, for people and reports: channels of each group before and after, and the figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator
from typing_extensions import Self

from edgecr.core.errors import FileProblem
from edgecr.core.files import read_json, refused_as
from edgecr.core.options import Options
from edgecr.core.step_record import BudgetOutcome, Row, Shown, StepRecord, read_values, record_file
from edgecr.surgery.planning.amounts import LATENCY, WHOLE_LATENCY, in_words
from edgecr.surgery.planning.unreachable import predicted

NAME = "plan"
"""The name of the record."""
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
    """The requested amount, under the same counter."""

    @property
    def reached(self) -> float | None:
        """The amount that remains, divided by the budget; above 1 the pruning falls short of its request."""
        return None if self.budget is None else self.after / max(1, self.budget)

    @property
    def short(self) -> bool:
        """True if clearly more remains than was asked for."""
        return self.reached is not None and self.reached > 1 + SHORT

    def __str__(self) -> str:
        before, after = in_words(self.figure, self.before), in_words(self.figure, self.after)
        asked = f", {in_words(self.figure, self.budget)} allowed" if self.budget is not None else ""
        return f"{self.figure} {before} to {after} ({self.after / self.before:.1%} remain{asked})"


class PlanRecord(StepRecord):
    """One pruning, from the model as it came to the model as it went."""

    device: str = ""
    """The device that latency was planned for; empty without a budget of latency."""
    target: str = ""
    """The export target whose files it was planned for; empty without a budget of latency."""
    widths: tuple[Width, ...] = ()
    amounts: tuple[Amount, ...] = ()
    dropped: tuple[str, ...] = ()
    """Residual blocks that went as a whole."""
    loss: float | None = None
    """The measured loss of the plan, where widths have one: mean divergence from the model before, once repaired."""
    estimated: tuple[str, ...] = ()
    """The layers of the last plan whose latency was interpolated, not measured, when it was chosen."""

    @property
    def asked(self) -> tuple[Amount, ...]:
        """The figures that were asked for; a latency is judged as it was measured, not by the table."""
        measured = any(one.figure == WHOLE_LATENCY for one in self.amounts)
        return tuple(one for one in self.amounts if one.budget is not None and not (measured and one.figure == LATENCY))

    def outcome(self) -> list[str]:
        """The figures before and after, the blocks that went and the predicted loss, in words."""
        blocks = [f"dropped blocks {' and '.join(self.dropped)}"] if self.dropped else []
        return [*map(str, self.amounts), *blocks, *([predicted(self.loss)] if self.loss is not None else ())]

    def shown(self, name: str) -> Shown:
        """The channels of each group as rows; what was asked for and reached as facts and budgets."""
        facts = {
            "reached": "; ".join(str(one) for one in self.amounts if one.budget is not None),
            "short of what was asked for": "; ".join(one.figure for one in self.asked if one.short),
            "planned for": " on ".join(name for name in (self.target, self.device) if name),
            "dropped blocks": ", ".join(self.dropped),
            "loss": "" if self.loss is None else predicted(self.loss),
        }
        return Shown(
            title="Pruning plan",
            head=("channels", "before and after"),
            note="A group is named after the first layer that makes its channels.",
            rows=tuple(Row(label=one.group, before=one.before, value=one.after) for one in self.widths),
            facts={name: text for name, text in facts.items() if text},
            budgets=tuple(
                BudgetOutcome(figure=one.figure, asked=one.budget, reached=one.after)
                for one in self.asked
                if one.budget is not None
            ),
        )

    @classmethod
    def load(cls, folder: Path) -> PlanRecord:
        """Reads the plan in a step's folder."""
        file = record_file(folder, NAME)
        values = read_values(file)
        with refused_as(f"{file} is not the plan of a pruning"):
            return cls.parse(values)


def read_first_plan(file: Path) -> PlanRecord:
    """Reads the ``plan.json`` of a run made before every method left records."""
    values = read_json(file)
    if not isinstance(values, dict) or values.get("schema_version") != 1:
        raise FileProblem(f"{file} was written by another version of EdgeCR.")
    with refused_as(f"{file} is not the plan of a pruning"):
        return PlanRecord.parse({key: value for key, value in values.items() if key != "schema_version"})
