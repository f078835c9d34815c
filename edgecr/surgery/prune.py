"""One whole pruning of channels: find the groups, choose, remove, and prove that the result is right."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from edgecr.errors import UnsupportedModel
from edgecr.surgery.cost import Cost
from edgecr.surgery.graph import ChannelGraph, trace_channels
from edgecr.surgery.plan import Plan, Planner
from edgecr.surgery.removal import ChannelCut, mask, remove, verify
from edgecr.surgery.scores import Evidence, Score
from edgecr.surgery.widths import Allowed, Limits

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
    allowed: Allowed | None = None,
) -> Pruned:
    """Prunes a copy of the module in evidence; if a guess about its code proves wrong, once more without."""

    def pruned(graph: ChannelGraph) -> Pruned:
        if not graph.groups:
            raise UnsupportedModel(nothing_to_prune(graph))
        values = [score(group, evidence) for group in graph.groups]
        planner = Planner(graph, Cost(evidence.module, graph), values, limits, allowed=allowed)
        return carried_out(evidence.module, choose(planner), why)

    try:
        return pruned(trace_channels(evidence.module, input_shape))
    except UnsupportedModel:
        return pruned(trace_channels(evidence.module, input_shape, cautious=True))


def carried_out(module: nn.Module, plan: Plan, why: str = "") -> Pruned:
    """Removes from a copy of the module what a plan says, and verifies the result."""
    cut, graph = plan.cut(why), plan.graph
    slim, difference = _proved(module, cut, graph)
    if _hides(module):
        difference = max(difference, _proved(_awakened(module), cut, graph)[1])
    return Pruned(slim, cut, plan, difference)


def hidden(module: nn.Module, plan: Plan) -> float:
    """Raises unless channels that are hidden from the weights that read them are as good as gone."""
    cut, graph = plan.cut(), plan.graph
    made, read = _awakened(module), _awakened(module)
    mask(made, cut)
    mask(read, cut, "in")
    return verify(made, read, graph.input_shape, auxiliary=graph.auxiliary)


def _proved(module: nn.Module, cut: ChannelCut, graph: ChannelGraph) -> tuple[nn.Module, float]:
    """A slimmed copy, and how far its answers are from a masked one's."""
    masked, slim = copy.deepcopy(module), copy.deepcopy(module)
    mask(masked, cut)
    remove(slim, cut)
    return slim, verify(masked, slim, graph.input_shape, auxiliary=graph.auxiliary)


def _hides(module: nn.Module) -> bool:
    """Whether some weight is all zero, as heads of untrained models are: then answers would agree untested."""
    return any(parameter.dim() > 1 and not parameter.any() for parameter in module.parameters())


def _awakened(module: nn.Module) -> nn.Module:
    """A copy with random numbers in place of weights that are all zero."""
    awake, generator = copy.deepcopy(module), torch.Generator().manual_seed(0)
    for parameter in awake.parameters():
        if parameter.dim() > 1 and not parameter.any():
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return awake


def nothing_to_prune(graph: ChannelGraph) -> str:
    """Why no channel of a model can be removed."""
    reasons = list(graph.trace.stops)
    more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    return f"No channel of this model can be removed ({'; '.join(reasons[:3])}{more})."

