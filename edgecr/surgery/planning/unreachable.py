"""The error of a budget that no plan meets: the best figure that can be reached, and what its plan would cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgecr.core.errors import BudgetError
from edgecr.surgery.planning.amounts import in_words

LOOSEN = "Ask for less removal, or loosen `exclude`, `min_channels`, `min_fraction` or `align`."

FIXED = (
    "No channel may go: every group must keep all of its channels. Loosen `exclude`, `min_channels`, `min_fraction` or "
    "`align`."
)


@dataclass(frozen=True)
class Short:
    """One figure that stays above what was asked for."""

    figure: str
    asked: int
    least: int
    dense: int

    def __str__(self) -> str:
        share = f"{self.least / self.dense:.1%} of {in_words(self.figure, self.dense)}"
        request = f"{self.figure}: {in_words(self.figure, self.asked)} may remain"
        return f"{request}, {in_words(self.figure, self.least)} is the least ({share})"


class Unreachable(BudgetError):
    """A budget below the least that a model can come to."""

    def __init__(
        self, short: Sequence[Short], loss: float | None = None, dropped: int = 0, *, fixed: bool = False
    ) -> None:
        """``loss`` is the measured one of the plan for the least; with ``fixed`` no group may lose any channel."""
        self.short, self.loss = tuple(short), loss
        if fixed and not dropped:
            super().__init__(FIXED)
            return
        without = f" and {dropped} residual blocks" if dropped else ""
        super().__init__(
            f"This cannot be met by removing channels{without}: {'; '.join(map(str, short))}{at_loss(loss)}. {LOOSEN}"
        )


def at_loss(loss: float | None) -> str:
    """The measured loss of a plan as a part of a sentence; nothing where none was measured."""
    return "" if loss is None else f", at a {predicted(loss)}"


def predicted(loss: float) -> str:
    """The measured loss of a plan in words."""
    return f"predicted loss of {loss:.3g} (mean divergence from the model before)"
