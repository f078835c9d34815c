"""The search for the plan whose whole model takes the asked latency: pure, with all it knows in frozen records.

A latency table promises what a plan takes; only whole models, measured, say what it does take. The search asks for
plans that promise a bit more or less until a measured one is near the request.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from edgecr.core.errors import BudgetError
from edgecr.latency import CalibrationPoint

CHECKS = 5
"""Plans that are tried for a latency; each one is measured as a whole model."""
NEAR, MOST, AIM = 0.95, 0.99, 0.975
"""Of the asked latency: a whole model between the first two is good (measurements differ by a hundredth), and the next
plan aims between them."""
MADE = 2 * CHECKS
"""Plans that are made after the first: some repeat one that was measured already."""
CLEARLY = 0.95
"""Factor, or divisor, by which the aim moves on from a repeated plan: widths move in steps."""
LOOSER = 1.1
"""Factor by which the latency in the table may rise for the next try, if no plan is as fast as asked for."""

Lessons = tuple[CalibrationPoint, ...]
"""Calibration points from whole models: the difference between a sum of layers and a model."""


@dataclass(frozen=True)
class Aim:
    """The strictness and the calibration that a plan is made with."""

    strictness: float = 1.0
    """Latency that the table must promise, as a part of the asked one, for the whole model to take what was asked."""
    lessons: Lessons = ()


@dataclass(frozen=True)
class Measured:
    """The result of measuring a plan's whole model."""

    part: float
    """Latency of the whole model, as a part of the asked one."""
    lessons: Lessons
    """Calibration points known after this measurement."""
    promised: tuple[float, float]
    """Latency by the table, as a part of the asked one, without and with the calibration by this measurement."""


P = TypeVar("P")


@dataclass(frozen=True)
class Tried(Generic[P]):
    """A plan that was measured, and what it was made with."""

    plan: P
    aim: Aim
    measured: Measured

    @property
    def part(self) -> float:
        """Of the asked latency."""
        return self.measured.part

    @property
    def keeps(self) -> bool:
        """True if the whole model stays within the asked latency."""
        return self.part <= MOST

    @property
    def next(self) -> Aim:
        """The aim of the next plan, with what this one taught."""
        before, after = self.measured.promised
        return Aim(self.aim.strictness * AIM / self.part * after / before, self.measured.lessons)

    def beyond(self, aim: Aim) -> Aim:
        """An aim that asks for clearly less than another one that led here again, or for more if this is too little."""
        return replace(aim, strictness=aim.strictness * (1 / CLEARLY if self.keeps else CLEARLY))


def search(
    measure: Callable[[P, Aim], Measured],
    plan: Callable[[Aim], P],
    refusal: Callable[[P], BudgetError],
    same: Callable[[P, P], bool],
) -> tuple[P, Aim]:
    """The plan whose whole model comes nearest to the asked latency without exceeding it, and what it was made with.

    ``plan`` raises a BudgetError where no plan is as strict as its aim; ``refusal`` says so for the last one measured.
    A plan that is the ``same`` as an earlier one is no try: it is not measured again, and the aim moves on.
    """
    one, aim = _first(plan)
    tried = [Tried(one, aim, measure(one, aim))]
    wanted, repeated = tried[-1].next, set[bool]()
    for _ in range(MADE):
        if len(tried) == CHECKS or NEAR <= tried[-1].part <= MOST:
            break
        try:
            one = plan(wanted)
        except BudgetError as error:
            if not any(one.keeps for one in tried):
                raise refusal(tried[-1].plan) from error
            break
        if (known := next((each for each in tried if same(each.plan, one)), None)) is not None:
            repeated.add(known.keeps)
            if len(repeated) == 2:
                break  # a step down leads to the one and a step up to the other
            wanted = known.beyond(wanted)
            continue
        tried.append(Tried(one, wanted, measure(one, wanted)))
        wanted, repeated = tried[-1].next, set()
    kept = [one for one in tried if one.keeps]
    chosen = max(kept, key=lambda one: one.part) if kept else tried[-1]
    if chosen is tried[-1] and not repeated:  # no plan was made since
        return chosen.plan, chosen.aim
    return plan(chosen.aim), chosen.aim  # made anew: the table knows more layers by now


def _first(plan: Callable[[Aim], P]) -> tuple[P, Aim]:
    """The plan by the table; where it knows none that is fast enough, a looser one: whole models judge."""
    aim, refusals = Aim(), list[BudgetError]()
    for _ in range(CHECKS):
        try:
            return plan(aim), aim
        except BudgetError as error:
            refusals.append(error)
            aim = replace(aim, strictness=aim.strictness * LOOSER)
    raise refusals[0]
