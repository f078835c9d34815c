from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from edgecr.exporters.receipt import Receipt
from edgecr.surgery.changes.base import replay
from edgecr.surgery.changes.cut import ChannelCut, mask, remove, verify
from edgecr.surgery.counters import count
from edgecr.surgery.planning.cost import Cost
from edgecr.surgery.planning.plan import Planner
from edgecr.surgery.planning.widths import Limits
from edgecr.surgery.scoring.scores import ScoringInputs, scores
from edgecr.surgery.tracing.after import after
from edgecr.surgery.tracing.graph import ChannelGraph, trace_channels

Shape = tuple[int, int, int]


def disturbed(module: nn.Module) -> nn.Module:
    """Every normalisation gets statistics and scales of its own, so that a swapped channel shows."""
    generator = torch.Generator().manual_seed(0)
    for tensor in [*module.buffers(), *module.parameters()]:
        if tensor.dim() == 1 and tensor.is_floating_point():
            tensor.data.add_(torch.rand(tensor.shape, generator=generator) * 0.2)
    return module.eval()


def planner_for(module: nn.Module, shape: Shape, score: str = "l2", **limits: object) -> Planner:
    graph = trace_channels(module, shape)
    evidence = ScoringInputs(module)
    values = [scores.get(score)(group, evidence) for group in graph.groups]
    return Planner(graph, Cost(module, graph), values, Limits(**limits))  # type: ignore[arg-type]


@pytest.fixture
def prune() -> Callable[..., tuple[ChannelGraph, nn.Module, ChannelCut]]:
    """Prunes in two rounds, proves the results equal to the masked models below 1e-5, and checks record and counts."""

    def run(
        module: nn.Module,
        shape: Shape,
        *,
        fresh: Callable[[], nn.Module] | None = None,
        sparsity: float = 0.4,
    ) -> tuple[ChannelGraph, nn.Module, ChannelCut]:
        disturbed(module)
        graph = trace_channels(module, shape)
        cut, slim = one_round(module, graph, sparsity)
        smaller = after(graph, [cut], slim)
        more, slimmer = one_round(slim, smaller, sparsity)
        assert [group.name for group in smaller.groups] == [group.name for group in graph.groups]
        after(graph, [cut, more], slimmer)
        if fresh is not None:
            again = fresh()
            replay(again, [cut, more])
            again.load_state_dict(slimmer.state_dict())
        return graph, slim, cut

    return run


def one_round(module: nn.Module, graph: ChannelGraph, sparsity: float) -> tuple[ChannelCut, nn.Module]:
    """Cuts known groups of a module; what is left answers as the masked module does, and is as small as planned."""
    values = [scores.get("l2")(group, ScoringInputs(module)) for group in graph.groups]
    planner = Planner(graph, Cost(module, graph), values, Limits(align="off"))
    plan = planner.by_sparsity("layer", sparsity)
    cut = ChannelCut.parse(plan.cut("test").plain())
    assert cut == plan.cut("test")
    masked, slim = copy.deepcopy(module), copy.deepcopy(module)
    mask(masked, cut)
    remove(slim, cut)
    assert verify(masked, slim, graph.input_shape, auxiliary=graph.auxiliary) < 1e-5
    counted, cost = count(slim, graph.input_shape), planner.cost
    assert (counted.params, counted.macs) == (cost.params(plan.kept), cost.macs(plan.kept))
    assert (plan.kept >= 1).all()
    assert Receipt(count(module, graph.input_shape), counted, counted, promise=cut.promise(slim)).failures() == []
    return cut, slim
