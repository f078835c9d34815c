"""One whole pruning of channels: find the groups, choose, remove, and prove that the result is right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from edgecr.core.errors import UnsupportedModel
from edgecr.surgery.changes.cut import ChannelCut, mask, verify
from edgecr.surgery.planning.cost import Cost
from edgecr.surgery.planning.plan import Plan, Planner
from edgecr.surgery.planning.widths import Allowed, Limits
from edgecr.surgery.scoring.scores import Allocator, Score, ScoringInputs, Values
from edgecr.surgery.tracing.graph import ChannelGraph, trace_channels
from edgecr.surgery.tracing.proof import awakened, proved, proven_channels

Choice = Callable[[Planner], Plan]


@dataclass(frozen=True)
class Pruned:
    """A slimmed module, the record of what went, and what the choice rested on."""

    module: nn.Module
    cut: ChannelCut
    plan: Plan
    difference: float
    """The largest deviation of the slimmed module's outputs from the masked one's, relative to the largest output."""

    @property
    def graph(self) -> ChannelGraph:
        """The groups that the plan chose from."""
        return self.plan.graph


def prune_channels(
    input_shape: tuple[int, ...],
    score: Score,
    evidence: ScoringInputs,
    limits: Limits,
    choose: Choice,
    why: str = "",
    allowed: Allowed | None = None,
    known: ChannelGraph | None = None,
    *,
    allocator: Allocator | None = None,
    appraise: Callable[[Planner], Sequence[Values]] | None = None,
) -> Pruned:
    """Prunes a copy of the module in evidence; if it fails, once more without the groups that make it fail.

    ``allowed`` is the reference of an earlier pruning that this one carries on, ``known`` are the groups that it found;
    ``allocator`` shares out what goes of every layer; ``appraise`` gives the values of widths for ``scope: measured``.
    """

    def pruned(graph: ChannelGraph) -> Pruned:
        if not graph.groups:
            raise UnsupportedModel(nothing_to_prune(graph))
        values = [score(group, evidence) for group in graph.groups]
        allocation = allocator(graph.groups, evidence) if allocator is not None else None
        cost = Cost(evidence.module, graph)
        planner = Planner(graph, cost, values, limits, allowed=allowed, allocation=allocation)
        if appraise is not None:
            planner.worth = appraise(planner)
        return carried_out(evidence.module, choose(planner), why)

    if known is not None:
        return pruned(known)
    try:
        return pruned(trace_channels(evidence.module, input_shape))
    except UnsupportedModel:
        return pruned(proven_channels(evidence.module, input_shape))


def carried_out(module: nn.Module, plan: Plan, why: str = "") -> Pruned:
    """Removes from a copy of the module what a plan says, and verifies the result."""
    cut, graph = plan.cut(why), plan.graph
    slim, difference = proved(module, cut, graph)
    return Pruned(slim, cut, plan, difference)


def hidden(module: nn.Module, plan: Plan) -> float:
    """Raises unless channels that are hidden from the weights that read them are as good as gone."""
    cut, graph = plan.cut(), plan.graph
    made, read = awakened(module), awakened(module)
    mask(made, cut)
    mask(read, cut, "in")
    return verify(made, read, graph.input_shape, auxiliary=graph.auxiliary)


def nothing_to_prune(graph: ChannelGraph) -> str:
    """Returns the message that no channel of a model can be removed, with the first reasons."""
    reasons = [*(f"{one.layer}: {one.reason}" for one in graph.withheld), *graph.trace.stops]
    more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    return f"No channel of this model can be removed ({'; '.join(reasons[:3])}{more})."
