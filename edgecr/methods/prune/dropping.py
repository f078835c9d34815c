"""Plans that let whole residual blocks go: the blocks that cost least for what they save go first, one more at a time.

For each number of dropped blocks the widths of what is left are planned anew; the plan with the least measured loss
counts. A block that is dropped saves its additions and calls too, which is why drops pay under a latency. A block that
holds a layer named by ``exclude`` stays; floors such as ``min_fraction`` speak of the layers that remain.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from edgecr.core.errors import BudgetError, UnsupportedModel
from edgecr.subject import Subject
from edgecr.surgery.changes.drop import BlockDrop
from edgecr.surgery.counters import count
from edgecr.surgery.planning.cost import Cost
from edgecr.surgery.planning.plan import Plan, Planner
from edgecr.surgery.planning.unreachable import Unreachable
from edgecr.surgery.planning.widths import Allowed, Limits, matched_layers
from edgecr.surgery.repair.branches import Branch
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
        for number, choice in enumerate(self._choices()):
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

    def _choices(self) -> Iterator[Choice]:
        """Nothing dropped, the cheapest block, the two cheapest ones, and so on; each is made when first asked for."""
        for number in itertools.count():
            if number == len(self._made):
                one = next(self._more, None)
                if one is None:
                    return
                self._made.append(one)
            yield self._made[number]

    @cached_property
    def _made(self) -> list[Choice]:
        return [Choice(self.subject, (), 0.0, self.whole)]

    @cached_property
    def _more(self) -> Iterator[Choice]:
        return self._without()

    def _without(self) -> Iterator[Choice]:
        before, gone = self.subject, dict[str, float]()
        for branch, loss in self._ordered():
            if branch.block.startswith(tuple(f"{block}." for block in gone)):
                continue  # it went with the block around it
            module = copy.deepcopy(before.module)
            BlockDrop(block=branch.block).replay(module)
            slim = before.with_module(module)
            try:
                planner = self._planner(slim)
            except UnsupportedModel:
                continue  # what is left cannot be planned without it
            inside = f"{branch.block}."
            gone = {block: own for block, own in gone.items() if not block.startswith(inside)} | {branch.block: loss}
            before, drops = slim, tuple(BlockDrop(block=block) for block in gone)
            yield Choice(before, drops, sum(gone.values()), planner)

    def _ordered(self) -> list[tuple[Branch, float]]:
        """The branches that may go, by their loss for each multiply-accumulate that they save."""
        shape, dense = self.subject.input_shape, count(self.subject.module, self.subject.input_shape).macs
        stay = matched_layers(self.whole.graph, self.limits.exclude)

        def price(pair: tuple[Branch, float]) -> float:
            module = copy.deepcopy(self.subject.module)
            BlockDrop(block=pair[0].block).replay(module)
            return pair[1] / max(1, dense - count(module, shape).macs)

        free = (pair for pair in zip(self.branches, self.losses) if not _holds(pair[0].block, stay))
        return sorted(free, key=price)

    def _planner(self, subject: Subject) -> Planner:
        """A planner with the scores, the allowed widths and the values that the groups have in the whole model."""
        graph, whole = trace_channels(subject.module, subject.input_shape), self.whole
        places = [self._place(graph, number) for number in range(len(graph.groups))]
        counts = {
            group.name: whole.allowed.counts[whole.graph.groups[place].name]
            for group, place in zip(graph.groups, places)
        }
        widths = {group.name: group.width for group in graph.groups}
        values, cost = [whole.values[place] for place in places], Cost(subject.module, graph)
        planner = Planner(graph, cost, values, self.limits, allowed=Allowed(counts, widths, widths))
        assert whole.worth is not None
        planner.worth = [whole.worth[place] for place in places]
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


def _holds(block: str, layers: Iterable[str]) -> bool:
    """True if one of the layers is the block or lies in it."""
    return any(layer == block or layer.startswith(f"{block}.") for layer in layers)


def _refusal(refused: Sequence[tuple[Choice, BudgetError]]) -> BudgetError:
    """The refusal of the choice that comes nearest to the budget, as one of the whole model."""
    unmet = [(choice, error) for choice, error in refused if isinstance(error, Unreachable)]
    if not unmet or len(refused) == 1:
        return refused[-1][1]
    dense = {one.figure: one.dense for one in unmet[0][1].short}
    choice, error = min(unmet, key=lambda each: each[1].short[0].least)
    short = [replace(one, dense=dense.get(one.figure, one.dense)) for one in error.short]
    return Unreachable(short, choice.loss + (error.loss or 0.0), len(choice.drops))
