"""Planning on a latency table, with a made-up device whose times step at multiples."""

from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from edgecr.core.errors import BudgetError, WorkError
from edgecr.latency import Entry, LatencyTable, LayerConfig, Machine
from edgecr.surgery.changes.cut import remove
from edgecr.surgery.planning.amounts import LATENCY
from edgecr.surgery.planning.latency import amounts_after, corners, plan_by_latency
from edgecr.surgery.planning.latency_figure import latency_figure
from edgecr.surgery.planning.layers import LayerSizes, configurations, reachable
from edgecr.surgery.planning.plan import Planner
from edgecr.surgery.planning.weighing import charges, weighed, worth_of
from tests.surgery.conftest import planner_for

SHAPE = (3, 16, 16)
STAIR = 8


def empty_table() -> LatencyTable:
    machine = Machine(device="made-up", processor="none", runtime="ort", version="0", threads=1)
    return LatencyTable(machine=machine, clock="wall")


def nanoseconds(config: LayerConfig) -> int:
    """Latency in steps: channels count in blocks; each call costs something."""
    blocks = math.ceil(config.cout / STAIR) * math.ceil(config.cin / STAIR / max(1, config.groups))
    size = math.prod(config.out_size) if config.kind == "conv" else 1
    return 2_000 + 150 * blocks * size * math.prod(config.kernel)


def measure(table: LatencyTable, layers: list[LayerConfig]) -> LatencyTable:
    return table.extended({one.key: Entry(wall_ns=(nanoseconds(one),), cpu_ns=(None,)) for one in layers})


class Block(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, inner, 3, padding=1, bias=False), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = nn.Conv2d(inner, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(x + self.bn2(self.conv2(inner)))


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        Block(32, 48),
        Block(32, 24),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


def timed(net: nn.Module, share: float, scope: str = "knapsack", **limits: object):
    planner = planner_for(net, SHAPE, **{"align": STAIR} | limits)
    return planner, plan_by_latency(
        planner, 1, empty_table(), measure, lambda one: one.by_budget(scope, {LATENCY: share})
    )


def real(planner: Planner, kept: np.ndarray) -> int:
    sizes = LayerSizes(planner.cost.module, planner.graph)
    return sum(map(nanoseconds, sizes.configurations(kept)))


@pytest.mark.parametrize("scope", ["knapsack", "global", "layer"])
@pytest.mark.parametrize("share", [0.9, 0.5, 0.25])
def test_the_budget_is_kept_by_the_widths_that_are_left(net: nn.Module, share: float, scope: str) -> None:
    planner, found = timed(net, share, scope)
    dense, left = real(planner, planner.cost.widths), real(planner, found.plan.kept)
    assert left <= share * dense
    assert planner.figure(LATENCY, found.plan.kept) == left
    sizes = LayerSizes(planner.cost.module, planner.graph)
    assert not found.table.missing(sizes.configurations(found.plan.kept))
    for number, widths in enumerate(planner.widths.allowed):  # nothing more fits
        for larger in widths[widths > found.plan.kept[number]][:1]:
            fuller = found.plan.kept.copy()
            fuller[number] = larger
            assert planner.figure(LATENCY, fuller) > share * dense


def test_a_larger_table_from_a_broken_off_attempt_gives_the_same_plan(net: nn.Module) -> None:
    planner, found = timed(net, 0.5)
    again = plan_by_latency(planner, 1, found.table, measure, lambda one: one.by_budget("knapsack", {LATENCY: 0.5}))
    assert (again.plan.kept == found.plan.kept).all()
    assert again.table is found.table


def test_latency_costs_telescope_with_inputs_held(net: nn.Module) -> None:
    planner, _ = timed(net, 0.5)
    figure, reference = planner.figures[LATENCY], planner.cost.widths
    fixed = figure.parts(reference)[figure.owners < 0].sum()
    costs = charges(figure, planner.widths.allowed, reference)
    assert sum(cost[-1] for cost in costs) + fixed == figure(reference)
    sizes = LayerSizes(planner.cost.module, planner.graph)
    for number, (cost, widths) in enumerate(zip(costs, planner.widths.allowed)):
        own = [layer.config for layer, owner in zip(sizes.layers, figure.owners) if owner == number]
        for k, width in zip(cost, widths):
            assert k == sum(nanoseconds(one.resized("cout", int(width))) for one in own)


def test_the_knapsack_equals_brute_force_with_inputs_held(net: nn.Module) -> None:
    planner, _ = timed(net, 0.5)
    figure, options = planner.figures[LATENCY], planner.widths.allowed
    costs = charges(figure, options, planner.cost.widths)
    worth = [worth_of(np.sort(value), widths) for value, widths in zip(planner.values, options)]
    from edgecr.surgery.planning.knapsack import choose

    for share in (0.3, 0.5, 0.8):
        capacity = int(share * sum(cost.max() for cost in costs)) // 100
        scaled = [-(-cost // 100) for cost in costs]
        best = max(
            sum(own[i] for own, i in zip(worth, picks))
            for picks in itertools.product(*map(range, map(len, options)))
            if sum(own[i] for own, i in zip(scaled, picks)) <= capacity
        )
        picks = choose(worth, scaled, capacity)
        assert sum(own[i] for own, i in zip(worth, picks)) == pytest.approx(best)


def test_the_plan_is_near_the_best_of_all_plans(net: nn.Module) -> None:
    for share in (0.3, 0.5, 0.8):
        planner, found = timed(net, share)
        worth = [worth_of(np.sort(value), widths) for value, widths in zip(planner.values, planner.widths.allowed)]

        def value(kept: tuple[int, ...], worth=worth, planner=planner) -> float:
            return sum(float(w[a == k][0]) for w, a, k in zip(worth, planner.widths.allowed, kept))

        allowed = share * real(planner, planner.cost.widths)
        options = itertools.product(*planner.widths.allowed)
        best = max(value(k) for k in options if real(planner, np.array(k)) <= allowed)
        assert value(tuple(found.plan.kept)) >= 0.95 * best


def test_budgets_fall_exponentially_and_are_kept_at_every_step(net: nn.Module) -> None:
    planner, _ = timed(net, 0.5)
    dense = {LATENCY: planner.figure(LATENCY, planner.cost.widths)}
    left, steps, dead = {LATENCY: dense[LATENCY] * 4 // 10}, 6, None
    before, random = planner.cost.widths, np.random.default_rng(0)
    for step in range(1, steps + 1):
        amounts = amounts_after(step, steps, dense, left)
        exact = dense[LATENCY] ** (1 - step / steps) * left[LATENCY] ** (step / steps)
        assert amounts[LATENCY] == pytest.approx(exact, abs=1.5)
        values = [random.random(len(value)) for value in planner.values]  # importance that changes wildly
        following = Planner(planner.graph, planner.cost, values, planner_limits(), dead=dead or ())
        plan = plan_by_latency(
            following, 1, empty_table(), measure, lambda one, amounts=amounts: one.by_budget("knapsack", amounts)
        ).plan
        assert real(planner, plan.kept) <= amounts[LATENCY]
        assert (plan.kept <= before).all()
        assert all(set(old) <= set(new) for old, new in zip(dead or (), plan.removed))
        before, dead = plan.kept, plan.removed
    assert real(planner, before) <= left[LATENCY]


def planner_limits():
    from edgecr.surgery.planning.widths import Limits

    return Limits(align=STAIR)


def test_a_latency_out_of_reach_says_the_best(net: nn.Module) -> None:
    with pytest.raises(BudgetError, match=r"latency: [\d.e-]+ ms may remain, [\d.e-]+ ms is the least \("):
        timed(net, 0.01)


def test_an_importance_that_is_no_number_is_refused(net: nn.Module) -> None:
    with torch.no_grad():
        net[0].weight[3] = math.nan
    with pytest.raises(WorkError, match=r"importance .* not a number"):
        timed(net, 0.5)


def test_other_figures_can_be_weighed_too(net: nn.Module) -> None:
    planner = planner_for(net, SHAPE, align="off")
    for name in ("params", "macs", "size"):
        plan = planner.by_budget("knapsack", {name: 0.5})
        assert planner.figure(name, plan.kept) <= 0.5 * planner.figure(name, planner.cost.widths)


def test_no_widths_fit_gives_none(net: nn.Module) -> None:
    planner, _ = timed(net, 0.5)
    figure = planner.figures[LATENCY]
    worth = [worth_of(scores, own) for scores, own in zip(planner._sorted, planner.widths.allowed)]
    assert weighed(figure, 1, planner.widths.allowed, worth, planner.cost.widths) is None


def test_an_estimate_is_only_used_on_the_way(net: nn.Module) -> None:
    planner, found = timed(net, 0.5)
    sizes = LayerSizes(planner.cost.module, planner.graph)
    assert latency_figure(sizes, found.table)(found.plan.kept) == real(planner, found.plan.kept)


GROUPED = (
    "resnext50_32x4d",
    "regnet_x_400mf",
    "regnet_y_400mf",
    "shufflenet_v2_x1_0",
    "efficientnet_b0",
    "mobilenet_v3_large",
)
"""Networks of which layers lose whole groups, or have relatives in the table that expand where they reduce."""


def torchvision(name: str) -> nn.Module:
    from edgecr.models import architecture, build

    torch.manual_seed(0)
    return build(architecture({"arch": f"torchvision:{name}"}), 10).eval()


@pytest.mark.parametrize("name", GROUPED)
@pytest.mark.parametrize("scope", ["knapsack", "global"])
def test_latency_budgets_are_kept_where_layers_have_groups(name: str, scope: str) -> None:
    module = torchvision(name)
    planner = planner_for(module, (3, 64, 64))
    sizes = LayerSizes(module, planner.graph)
    table = measure(empty_table(), [*sizes.configurations(sizes.widths), *reachable(sizes, planner.limits)])
    found = plan_by_latency(planner, 1, table, measure, lambda one: one.by_budget(scope, {LATENCY: 0.6}))
    allowed = 0.6 * real(planner, planner.cost.widths)
    assert found.estimated == ()
    assert 0.85 * allowed < real(planner, found.plan.kept) <= allowed
    slim = copy.deepcopy(module)
    remove(slim, found.plan.cut())
    assert found.table.network_latency(configurations(slim, (3, 64, 64))).ms * 1e6 <= allowed + 1


@pytest.mark.parametrize("name", ["resnext50_32x4d", "regnet_y_400mf", "mobilenet_v3_large"])
def test_between_its_corners_every_layer_can_be_estimated(name: str) -> None:
    planner = planner_for(torchvision(name), (3, 64, 64))
    sizes, random = LayerSizes(planner.cost.module, planner.graph), np.random.default_rng(0)
    table = measure(empty_table(), list(corners(sizes, planner.widths.least)))
    least, most = (real(planner, widths) / 1e6 for widths in (planner.widths.least, planner.cost.widths))
    for _ in range(20):
        kept = np.array([random.choice(widths) for widths in planner.widths.allowed])
        estimate = table.network_latency(sizes.configurations(kept), estimate=True)
        assert 0.5 * least < estimate.ms < 1.5 * most


def test_a_plan_that_still_rests_on_estimates_says_so(net: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    planner, measured = timed(net, 0.5)
    assert measured.estimated == ()
    grid = corners(LayerSizes(planner.cost.module, planner.graph), planner.widths.least)
    monkeypatch.setattr("edgecr.surgery.planning.latency.MOST_ROUNDS", 1)
    table = measure(empty_table(), list(grid))
    found = plan_by_latency(planner, 1, table, measure, lambda one: one.by_budget("knapsack", {LATENCY: 0.5}))
    assert found.estimated
    assert set(found.estimated).isdisjoint(table.entries)
    assert set(found.estimated) <= set(found.table.entries)  # measured since: what is told is a measured figure
    assert planner.figure(LATENCY, found.plan.kept) == real(planner, found.plan.kept)


def test_no_budget_is_refused_because_of_an_estimate(net: nn.Module) -> None:
    """The latency of the fewest channels was interpolated between entries that are too slow."""
    planner = planner_for(net, SHAPE, align=STAIR)
    sizes = LayerSizes(planner.cost.module, planner.graph)
    least = sizes.configurations(planner.widths.least)
    narrower = {one.key: one for one in corners(sizes, np.ones_like(planner.widths.least))}
    slow = {key: Entry(wall_ns=(10**9,), cpu_ns=(None,)) for key in narrower if key not in {one.key for one in least}}
    table = measure(empty_table(), sizes.configurations(sizes.widths)).extended(slow)
    table = measure(table, sizes.configurations(sizes.widths))
    assert table.missing(least)
    share = 1.05 * real(planner, planner.widths.least) / real(planner, planner.cost.widths)
    found = plan_by_latency(planner, 1, table, measure, lambda one: one.by_budget("knapsack", {LATENCY: share}))
    assert real(planner, found.plan.kept) <= share * real(planner, planner.cost.widths)


def test_inputs_may_come_from_several_groups() -> None:
    """The padded shortcuts of a CIFAR ResNet join channels of several stages."""
    from edgecr.models import architecture, build

    torch.manual_seed(0)
    resnet = build(architecture({"arch": "resnet20"}), 10)
    planner = planner_for(resnet, SHAPE)
    found = plan_by_latency(planner, 1, empty_table(), measure, lambda one: one.by_budget("knapsack", {LATENCY: 0.8}))
    assert real(planner, found.plan.kept) <= 0.8 * real(planner, planner.cost.widths)
