"""Plans that let whole residual blocks go: the blocks that cost least for what they save go first, one more at a time.

For each number of dropped blocks the widths of what is left are planned anew; the plan with the least measured loss
counts. A block that is dropped saves its additions and calls too, which is why drops pay under a latency.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from edgecr.core.errors import BudgetError, UnsupportedModel
from edgecr.subject import Subject
from edgecr.surgery.changes.drop import BlockDrop
from edgecr.surgery.counters import count
from edgecr.surgery.planning.cost import Cost
from edgecr.surgery.planning.plan import Plan, Planner
from edgecr.surgery.planning.unreachable import Unreachable
from edgecr.surgery.planning.widths import Limits
from edgecr.surgery.repair.branches import Branch
from edgecr.surgery.scoring.scores import Values
from edgecr.surgery.tracing.graph import ChannelGraph, trace_channels

PATIENCE = 4
"""Dropped blocks in a row that made plans worse, after which no more are tried."""


@dataclass(frozen=True)
class Choice:
    """A subject without some blocks, with a planner for what is left."""

    subject: Subject
    drops: tuple[BlockDrop, ...]
    loss: float
    """The measured loss of the drops."""
    planner: Planner

    def loss_of(self, plan: Plan) -> float:
        """The measured loss of the drops and of the widths of a plan."""
        return self.loss + self.planner.loss_of(plan.kept)


@dataclass
class Dropping:
    """The choices of one subject, by the number of blocks that are gone."""

    subject: Subject
    limits: Limits
    whole: Planner
    """The planner of the subject as it is, with the values of its widths."""
    branches: Sequence[Branch]
    losses: Sequence[float]

    def best(self, plan: Callable[[Planner], Plan]) -> tuple[Choice, Plan]:
        """The choice with the least measured loss whose plan keeps the budget; raises if none does."""
        found: list[tuple[float, int, Choice, Plan]] = []
        refused: list[tuple[Choice, BudgetError]] = []
        for number, choice in enumerate(self.choices):
            try:
                one = plan(choice.planner)
            except BudgetError as error:
                refused.append((choice, error))
                continue
            found.append((choice.loss_of(one), number, choice, one))
            if number - min(found)[1] >= PATIENCE:
                break
        if not found:
            raise _refusal(refused)
        _, _, choice, one = min(found, key=lambda each: each[:2])
        return choice, one

    @cached_property
    def choices(self) -> Sequence[Choice]:
        """Nothing dropped, the cheapest block, the two cheapest ones, and so on."""
        return [Choice(self.subject, (), 0.0, self.whole), *self._without()]

    def _without(self) -> Iterator[Choice]:
        before, total, drops = self.subject, 0.0, tuple[BlockDrop, ...]()
        for branch, loss in self._ordered():
            drop = BlockDrop(block=branch.block)
            module = copy.deepcopy(before.module)
            drop.replay(module)
            before, total, drops = before.with_module(module), total + loss, (*drops, drop)
            try:
                planner = self._planner(before)
            except UnsupportedModel:
                return  # code elsewhere looks into the block
            yield Choice(before, drops, total, planner)

    def _ordered(self) -> list[tuple[Branch, float]]:
        """The branches by their loss for each multiply-accumulate that they save."""
        dense = count(self.subject.module, self.subject.input_shape).macs

        def price(pair: tuple[Branch, float]) -> float:
            module = copy.deepcopy(self.subject.module)
            BlockDrop(block=pair[0].block).replay(module)
            return pair[1] / max(1, dense - count(module, self.subject.input_shape).macs)

        return sorted(zip(self.branches, self.losses), key=price)

    def _planner(self, subject: Subject) -> Planner:
        """A planner with the scores and values that the groups have in the whole model."""
        graph = trace_channels(subject.module, subject.input_shape)
        places = [self._place(graph, number) for number in range(len(graph.groups))]
        values = [self.whole.values[place] for place in places]
        planner = Planner(graph, Cost(subject.module, graph), values, self.limits)
        planner.worth = [self._worth(place, own) for place, own in zip(places, planner.widths.allowed)]
        return planner

    def _place(self, graph: ChannelGraph, number: int) -> int:
        """The group of the whole model that a group of a smaller one is."""
        group, gone = graph.groups[number], tuple(f"{branch.block}." for branch in self.branches)
        for place, whole in enumerate(self.whole.graph.groups):
            # streams may be nested, so that the layers of one are among those of another: all the others must be gone
            left_out = set(whole.layers) - set(group.layers)
            same = whole.width == group.width and set(group.layers) <= set(whole.layers)
            if same and all(layer.startswith(gone) for layer in left_out):
                return place
        raise UnsupportedModel(f"{group.name} is no group of the whole model.")

    def _worth(self, place: int, widths: np.ndarray) -> Values:
        assert self.whole.worth is not None
        known: Values = self.whole.worth[place][np.searchsorted(self.whole.widths.allowed[place], widths)]
        return known


def _refusal(refused: Sequence[tuple[Choice, BudgetError]]) -> BudgetError:
    """The refusal of the choice that comes nearest to the budget, as one of the whole model."""
    unmet = [(choice, error) for choice, error in refused if isinstance(error, Unreachable)]
    if not unmet:
        return refused[-1][1]
    dense = {one.figure: one.dense for one in unmet[0][1].short}
    choice, error = min(unmet, key=lambda each: each[1].short[0].least)
    short = [replace(one, dense=dense.get(one.figure, one.dense)) for one in error.short]
    return Unreachable(short, choice.loss + (error.loss or 0.0), len(choice.drops))
