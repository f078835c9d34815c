"""One whole pruning of channels: find the groups, choose, remove, and prove that the result is right."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from edgecr.errors import UnsupportedModel
from edgecr.surgery.cost import Cost
from edgecr.surgery.graph import ChannelGraph, trace_channels
from edgecr.surgery.plan import Limits, Plan, Planner
from edgecr.surgery.removal import ChannelCut, mask, remove, verify
from edgecr.surgery.scores import Evidence, Score

Choice = Callable[[Planner], Plan]


@dataclass(frozen=True)
class Pruned:
    """A slimmed module, the record of what went, and what the choice rested on."""

    module: nn.Module
    cut: ChannelCut
    plan: Plan
    difference: float
    """How far the slimmed module's answers are from the masked one's, relative to the largest."""

    @property
    def graph(self) -> ChannelGraph:
        """The groups that the plan chose from."""
        return self.plan.graph


def prune_channels(
    input_shape: tuple[int, ...],
    score: Score,
    evidence: Evidence,
    limits: Limits,
    choose: Choice,
    why: str = "",
) -> Pruned:
    """Prunes a copy of the module in evidence; if a guess about its code proves wrong, once more without."""
    try:
        graph = trace_channels(evidence.module, input_shape)
        return _pruned(graph, score, evidence, limits, choose, why)
    except UnsupportedModel:
        graph = trace_channels(evidence.module, input_shape, cautious=True)
        return _pruned(graph, score, evidence, limits, choose, why)


def _pruned(
    graph: ChannelGraph, score: Score, evidence: Evidence, limits: Limits, choose: Choice, why: str
) -> Pruned:
    """Scores, plans and removes on one graph, and verifies the result."""
    if not graph.groups:
        raise UnsupportedModel(nothing_to_prune(graph))
    values = [score(group, evidence) for group in graph.groups]
    plan = choose(Planner(graph, Cost(evidence.module, graph), values, limits))
    cut = plan.cut(why)
    masked, slim = copy.deepcopy(evidence.module), copy.deepcopy(evidence.module)
    mask(masked, cut)
    remove(slim, cut)
    difference = verify(masked, slim, graph.input_shape, auxiliary=graph.auxiliary)
    return Pruned(slim, cut, plan, difference)


def nothing_to_prune(graph: ChannelGraph) -> str:
    """Why no channel of a model can be removed."""
    reasons = list(graph.trace.stops)
    more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    return f"No channel of this model can be removed ({'; '.join(reasons[:3])}{more})."

