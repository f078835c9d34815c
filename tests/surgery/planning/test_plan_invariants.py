"""Invariants of every plan, on difficult networks: grouped, concatenated, shared and tied layers."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgecr.core.errors import UnsupportedModel, WorkError
from edgecr.surgery.changes.cut import ChannelCut, GroupCut, remove
from edgecr.surgery.counters import count
from edgecr.surgery.planning.cost import Cost
from edgecr.surgery.planning.plan import Plan, Planner
from edgecr.surgery.planning.weighing import weighed, worth_of
from edgecr.surgery.planning.widths import Limits, Widths, allowed_by, left_after
from edgecr.surgery.tracing.graph import ChannelGraph, trace_channels

SHAPE = (3, 8, 8)


class Unfriendly(nn.Module):
    """Two branches meet side by side, one layer runs twice, a sum ties two layers, and a flatten reads places."""

    def __init__(self, groups: int = 4) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(3, 20, 1)
        self.mixed = nn.Conv2d(32, 32, 1)
        self.grouped = nn.Conv2d(32, 32, 3, padding=1, groups=groups, bias=False)
        self.norm, self.into = nn.BatchNorm2d(32), nn.Conv2d(32, 16, 1)
        self.again = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.side, self.depthwise = nn.Conv2d(32, 16, 1), nn.Conv2d(16, 16, 3, 2, padding=1, groups=16)
        self.inner, self.head = nn.Linear(16 * 16, 24), nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.left(x), self.right(x)], 1).relu()
        x = self.norm(self.grouped(self.mixed(x))).relu()
        tied = self.into(x) + self.side(x)
        tied = self.again(self.again(tied).relu()) + tied
        return self.head(self.inner(self.depthwise(tied).relu().flatten(1)).relu())


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return Unfriendly().eval()


@pytest.fixture(scope="module")
def graph(network: nn.Module) -> ChannelGraph:
    return trace_channels(network, SHAPE)


def planner(network: nn.Module, graph: ChannelGraph, seed: int = 0, **options: Any) -> Planner:
    """Every channel has another value, groups of other ranges, so no order is right by accident."""
    random = np.random.default_rng(seed)
    own = {name: options.pop(name) for name in ("allowed", "dead", "allocation") if name in options}
    values = [random.permutation(np.linspace(0.1, 1 + n, g.width)) for n, g in enumerate(graph.groups)]
    return Planner(graph, Cost(network, graph), values, Limits(**{"align": "off"} | options), **own)


def slim(network: nn.Module, plan: Plan) -> nn.Module:
    module = copy.deepcopy(network)
    remove(module, plan.cut())
    return module


FIGURES = ("channels", "params", "macs", "size")


@pytest.mark.parametrize("align", ["off", "auto", 4])
@pytest.mark.parametrize("scope", ["layer", "global", "knapsack"])
@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("share", [0.85, 0.5])
def test_a_budget_holds_in_the_module_itself_and_leaves_no_room(
    network: nn.Module, graph: ChannelGraph, figure: str, scope: Any, align: Any, share: float
) -> None:
    one = planner(network, graph, align=align)
    plan = one.by_budget(scope, {figure: share})
    allowed = int(share * one.figure(figure, one.cost.widths))
    counted = count(slim(network, plan), SHAPE)
    reached = {
        "channels": sum(plan.kept[one.widths.least < one.cost.widths]),
        "params": counted.params,
        "macs": counted.macs,
        "size": 4 * counted.params,
    }
    assert reached[figure] == one.figure(figure, plan.kept)
    assert reached[figure] <= allowed
    widths = one.suitable({figure: allowed})
    for number, own in enumerate(widths.allowed):
        assert plan.kept[number] in own
        for larger in own[own > plan.kept[number]][:1]:
            fuller = plan.kept.copy()
            fuller[number] = larger
            assert one.figure(figure, fuller) > allowed, "a step that fits was not given back"


@pytest.mark.parametrize("scope", ["layer", "global", "knapsack"])
def test_the_least_important_channels_of_each_group_go(network: nn.Module, graph: ChannelGraph, scope: Any) -> None:
    one = planner(network, graph)
    plan = one.by_sparsity(scope, 0.4)
    for values, removed, kept in zip(one.values, plan.removed, plan.kept):
        assert len(removed) + kept == len(values)
        assert removed.tolist() == sorted(np.argsort(values)[: len(removed)].tolist())


@pytest.mark.parametrize("scope", ["global", "knapsack"])
def test_the_most_important_channels_of_all_stay(network: nn.Module, graph: ChannelGraph, scope: Any) -> None:
    """A budget of channels has one right answer: the best of each group, and then the highest scores."""
    one = planner(network, graph)
    plan = one.by_sparsity(scope, 0.6)
    firsts = [value.max() for value in one.values]
    others = np.sort(np.concatenate([np.sort(value)[:-1] for value in one.values]))[::-1]
    best = sum(firsts) + others[: sum(plan.kept) - len(firsts)].sum()
    found = sum(np.delete(value, gone).sum() for value, gone in zip(one.values, plan.removed))
    assert found == pytest.approx(best)


@pytest.mark.parametrize("scope", ["layer", "global", "knapsack"])
def test_channels_that_stay_by_request_count_neither_before_nor_after(
    network: nn.Module, graph: ChannelGraph, scope: Any
) -> None:
    whole = graph.groups[0]
    one = planner(network, graph, exclude=(whole.name,))
    free = sum(group.width for group in graph.groups[1:])
    assert one.share_left(0.5) == {"channels": free - round(0.5 * free)}
    plan = one.by_sparsity(scope, 0.5)
    assert plan.kept[0] == whole.width
    assert sum(plan.kept[1:]) == free - round(0.5 * free)
    assert one.allowed.removable == tuple(group.name for group in graph.groups[1:])


def two(values: tuple[float, float], wished: tuple[int, int]) -> list[int]:
    """Two layers of 16 in blocks of 8, and room for one of the two blocks that alignment took."""
    module = nn.Sequential(nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 1), nn.Conv2d(16, 2, 1))
    graph = trace_channels(module, SHAPE)
    own = [np.full(16, value) for value in values]

    def allocation(level: float) -> Any:
        return np.array([16, 16] if level < 0.5 else wished)

    one = Planner(graph, Cost(module, graph), own, Limits(align=8), allocation=allocation)
    return one.by_budget("layer", {"channels": 24}).kept.tolist()


@pytest.mark.parametrize(
    ("values", "wished", "kept"),
    [
        ((9.0, 1.0), (9, 11), [8, 16]),  # alignment took three channels here and one there, whatever they are worth
        ((1.0, 9.0), (11, 9), [16, 8]),
        ((1.0, 9.0), (10, 10), [8, 16]),  # it took as much, so what matters more comes back
        ((9.0, 1.0), (10, 10), [16, 8]),
    ],
)
def test_what_alignment_took_most_comes_back_first_and_then_what_matters_most(
    values: tuple[float, float], wished: tuple[int, int], kept: list[int]
) -> None:
    assert two(values, wished) == kept


@pytest.mark.parametrize("scope", ["layer", "global", "knapsack"])
@pytest.mark.parametrize("steps", [2, 4])
@pytest.mark.parametrize("slim", ["each", "end"])
def test_steps_end_where_one_step_does(scope: Any, steps: int, slim: str) -> None:
    """Groups that reach their least on the way count on: the beginning is the reference of every step."""
    module = Unfriendly(groups=1).eval()
    graph = trace_channels(module, SHAPE)
    options: dict[str, Any] = {"min_fraction": 0.5}
    kept = planner(module, graph, **options).by_sparsity(scope, 0.45).kept
    allowed, dead, total = allowed_by(graph, Limits("off", **options)), (), sum(g.width for g in graph.groups)
    assert sum(kept) == total - round(0.45 * total)
    for number in range(1, steps + 1):
        one = planner(module, graph, allowed=allowed, dead=dead, **options)
        amount = total - round(total * (1 - 0.55 ** (number / steps)))
        plan = one.by_budget(scope, {"channels": amount})
        assert one.figure("channels", plan.kept) == sum(plan.kept) == amount
        if slim == "end":
            dead = plan.removed
            continue
        remove(module, plan.cut())
        allowed, graph = allowed.after([plan.cut()]), trace_channels(module, SHAPE)
        assert {group.name: group.width for group in graph.groups} == allowed.left
    if scope == "layer":
        assert abs(plan.kept - kept).max() <= 1


def test_every_layer_loses_the_fraction_of_what_it_was_not_of_what_is_left() -> None:
    module, graph = Unfriendly(groups=1).eval(), trace_channels(Unfriendly(groups=1), SHAPE)
    half = [np.arange(g.width // 2) if n % 2 else np.arange(0) for n, g in enumerate(graph.groups)]
    widths = np.array([group.width for group in graph.groups])
    plan = Plan(graph, widths - [len(ids) for ids in half], tuple(half))
    remove(module, plan.cut())
    allowed = allowed_by(graph, Limits("off")).after([plan.cut()])
    one = planner(module, trace_channels(module, SHAPE), allowed=allowed)
    assert one.by_budget("layer", {"channels": int(widths.sum()) // 2}).kept.tolist() == (widths // 2).tolist()


def test_a_latency_may_use_all_widths_and_counts_leave_whole_blocks(network: nn.Module, graph: ChannelGraph) -> None:
    one = planner(network, graph, align="auto", multiples=(8, 4, 2))
    assert one.blocks is not one.widths
    assert one.suitable({"latency": 1}) is one.widths
    assert one.suitable({"channels": sum(one.cost.widths) - 1}) is one.blocks


def test_what_weighs_most_may_cost_exactly_as_much_as_there_is(network: nn.Module, graph: ChannelGraph) -> None:
    one = planner(network, graph)
    options = one.widths.allowed
    worth = [worth_of(np.sort(value), own) for value, own in zip(one.values, options)]
    found = weighed(one.figures["channels"], 40, options, worth, one.current)
    assert found is not None
    assert sum(found) == 40


def test_channels_of_a_group_that_shrank_to_one_count_on(network: nn.Module, graph: ChannelGraph) -> None:
    module, allowed = copy.deepcopy(network), allowed_by(graph, Limits("off"))
    alone = [np.arange(g.width - 1) if n == 1 else np.arange(0) for n, g in enumerate(graph.groups)]
    plan = Plan(graph, np.array([g.width - len(ids) for g, ids in zip(graph.groups, alone)]), tuple(alone))
    remove(module, plan.cut())
    now = trace_channels(module, SHAPE)
    one = planner(module, now, allowed=allowed.after([plan.cut()]))
    assert one.figure("channels", one.cost.widths) == sum(plan.kept)


def test_dead_channels_never_return_and_count_as_gone(network: nn.Module, graph: ChannelGraph) -> None:
    dead = [np.arange(group.width // 4) for group in graph.groups]
    for scope in ("layer", "global", "knapsack"):
        plan = planner(network, graph, dead=dead).by_sparsity(scope, 0.3)  # type: ignore[arg-type]
        assert all(set(gone) <= set(removed) for gone, removed in zip(dead, plan.removed))
        total = sum(group.width for group in graph.groups)
        assert sum(plan.kept) == total - round(0.3 * total)


def renamed(graph: ChannelGraph, *names: str) -> ChannelGraph:
    from dataclasses import replace

    groups = [replace(group, name=name) for group, name in zip(graph.groups, names)]
    return replace(graph, groups=(*groups, *graph.groups[len(groups) :]))


def test_a_group_that_took_the_name_of_another_is_not_cut(network: nn.Module, graph: ChannelGraph) -> None:
    allowed, (first, second) = allowed_by(graph, Limits("off")), (group.name for group in graph.groups[:2])
    assert graph.groups[0].width != graph.groups[1].width
    for names in ((second, first), ("something else",)):
        with pytest.raises(UnsupportedModel, match="no longer those that this pruning began with"):
            planner(network, renamed(graph, *names), allowed=allowed)


@pytest.mark.parametrize(
    "cut",
    [
        GroupCut(group="a", width=64, removed=56),  # the group has 9
        GroupCut(group="a", width=9, removed=9),
        GroupCut(group="a", width=9, removed=0),
        GroupCut(group="b", width=9, removed=1),
    ],
)
def test_a_record_of_what_cannot_have_gone_is_refused(cut: GroupCut) -> None:
    with pytest.raises(WorkError, match=rf"{cut.group} loses {cut.removed} of {cut.width} channels"):
        left_after({"a": 9}, [ChannelCut(groups=(cut,))])


def test_several_cuts_add_up() -> None:
    cuts = [ChannelCut(groups=(GroupCut(group="a", width=9 - n, removed=1),)) for n in range(3)]
    assert left_after({"a": 9, "b": 4}, cuts) == {"a": 6, "b": 4}


def test_counts_go_to_the_nearest_that_may_be_kept_and_of_two_to_the_larger() -> None:
    widths = Widths((np.array([4, 8, 16]),))
    wished = [0, 4, 5, 5.4, 5.5, 6, 8, 11, 11.4, 11.5, 12, 16, 20]
    kept = [int(widths.aligned(np.array([count]))[0]) for count in wished]
    assert kept == [4, 4, 4, 4, 8, 8, 8, 8, 8, 16, 16, 16, 16]


def test_fractions_bound_every_group_from_below_and_above(network: nn.Module, graph: ChannelGraph) -> None:
    for own, group in zip(planner(network, graph, min_fraction=0.3, max_fraction=0.7).widths.allowed, graph.groups):
        assert own[0] - 1 < 0.3 * group.width <= own[0]
        assert own[-1] <= 0.7 * group.width < own[-1] + 1
