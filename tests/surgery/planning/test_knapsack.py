"""The knapsack equals brute force, and its budget is never broken; in whole networks, what matters most stays."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from edgecr.core.errors import BudgetError
from edgecr.surgery.changes.cut import remove
from edgecr.surgery.counters import count
from edgecr.surgery.planning.knapsack import choose, solve
from edgecr.surgery.planning.weighing import weighed, worth_of
from tests.surgery.conftest import planner_for


def brute_force(values, costs, capacity):
    best = -np.inf
    for options in itertools.product(*(range(len(v)) for v in values)):
        if sum(c[o] for c, o in zip(costs, options)) <= capacity:
            best = max(best, sum(v[o] for v, o in zip(values, options)))
    return best


def instance(random):
    groups = random.integers(1, 6)
    values, costs = [], []
    for _ in range(groups):
        options = random.integers(1, 6)
        importance = np.sort(random.exponential(size=options))[::-1]
        values.append(np.cumsum(importance))  # a prefix of the most important bundles is kept
        costs.append(random.integers(0, 30, options))  # staircases are not monotone
    return values, costs, int(random.integers(0, 100))


def test_equals_brute_force_on_500_random_instances():
    random = np.random.default_rng(0)
    feasible = 0
    for _ in range(500):
        values, costs, capacity = instance(random)
        expected = brute_force(values, costs, capacity)
        if expected == -np.inf:
            with pytest.raises(BudgetError, match="least possible"):
                choose(values, costs, capacity)
            continue
        feasible += 1
        chosen = choose(values, costs, capacity)
        assert sum(c[o] for c, o in zip(costs, chosen)) <= capacity
        assert sum(v[o] for v, o in zip(values, chosen)) == pytest.approx(expected)
    assert feasible > 300


def test_kept_bundle_costs_telescope():
    latency = np.array([0, 7, 7, 12, 20])  # of keeping k bundles
    steps = np.diff(latency)
    for kept in range(len(latency)):
        assert steps[:kept].sum() == latency[kept]


def test_of_equal_values_the_cheaper_option_is_taken():
    assert choose([np.array([1.0, 1.0])], [np.array([5, 3])], 10) == [1]


def test_smaller_capacities_are_solved_with_the_largest_one():
    random = np.random.default_rng(1)
    for _ in range(50):
        values, costs, _ = instance(random)
        most = sum(int(cost.max()) for cost in costs)
        solution = solve(values, costs, most)
        reached = []
        for capacity in range(solution.cheapest, most + 1):
            picks = solution.within(capacity)
            assert sum(c[o] for c, o in zip(costs, picks)) <= capacity
            reached.append(sum(v[o] for v, o in zip(values, picks)))
            assert reached[-1] == pytest.approx(brute_force(values, costs, capacity))
        assert all(np.diff(reached) >= -1e-12)  # more room is never worth less


def test_worth_is_that_of_the_most_important_channels():
    ordered = np.array([-np.inf, 0.5, 1.0, 4.0])
    assert worth_of(ordered, np.array([0, 1, 2, 3])).tolist() == [0.0, 4.0, 5.0, 5.5]


class Unfriendly(nn.Module):
    """Groups of a convolution, concatenated branches, a shared layer, and layers tied by an addition."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 9, 3, padding=1), nn.Conv2d(3, 7, 1)
        self.grouped = nn.Conv2d(16, 12, 3, padding=1, groups=2)
        self.narrow = nn.Conv2d(12, 12, 3, padding=1, groups=6)
        self.one, self.two = nn.Conv2d(12, 8, 1), nn.Conv2d(3, 8, 1)
        self.shared = nn.Conv2d(8, 8, 1)
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        both = torch.cat([self.left(x).relu(), self.right(x).relu()], 1)
        inner = self.narrow(self.grouped(both).relu()).relu()
        added = (self.one(inner) + self.two(x)).relu()
        return self.head(self.shared(self.shared(added).relu()).relu())


def unfriendly(seed: int = 0, **limits: object):
    torch.manual_seed(seed)
    module = Unfriendly().eval()
    return module, planner_for(module, (3, 5, 5), **{"align": "off"} | limits)


def worth(planner, kept) -> float:
    """The importance that stays."""
    return sum(float(np.sort(value)[::-1][:count].sum()) for value, count in zip(planner.values, kept))


@pytest.mark.parametrize("figure", ["params", "macs", "size", "channels"])
@pytest.mark.parametrize("scope", ["knapsack", "global", "layer"])
@pytest.mark.parametrize("share", [0.8, 0.5, 0.35])
def test_of_an_unfriendly_network_the_least_important_channels_go_and_no_more(figure, scope, share):
    module, planner = unfriendly()
    dense = planner.figure(figure, planner.cost.widths)
    plan = planner.by_budget(scope, {figure: share})
    assert planner.figure(figure, plan.kept) <= share * dense
    for value, gone, left in zip(planner.values, plan.removed, plan.kept):
        stays = np.delete(value, gone)
        assert len(stays) == left
        assert len(gone) == 0 or stays.min() >= value[gone].max()
    for number, widths in enumerate(planner.suitable(planner.amounts({figure: share})).allowed):
        for larger in widths[widths > plan.kept[number]][:1]:
            fuller = plan.kept.copy()
            fuller[number] = larger
            assert planner.figure(figure, fuller) > share * dense
    remove(module, plan.cut())
    counted = count(module, (3, 5, 5))
    assert (counted.params, counted.macs) == (planner.cost.params(plan.kept), planner.cost.macs(plan.kept))


@pytest.mark.parametrize("figure", ["params", "macs"])
def test_on_an_unfriendly_network_the_knapsack_is_near_the_best_of_all_plans(figure):
    found = []
    for seed, share in itertools.product(range(3), (0.75, 0.5, 0.4)):
        _, planner = unfriendly(seed)
        kept = planner.by_budget("knapsack", {figure: share}).kept
        dense = planner.figure(figure, planner.cost.widths)
        every = itertools.product(*planner.widths.allowed)
        fitting = (np.array(k) for k in every if planner.figure(figure, np.array(k)) <= share * dense)
        best = max(worth(planner, k) for k in fitting)
        found.append(worth(planner, kept) / best)
    assert min(found) > 0.98
    assert np.mean(found) > 0.99


def test_more_room_never_keeps_less():
    for seed in range(5):
        _, planner = unfriendly(seed)
        amounts = [worth(planner, planner.by_budget("global", {"macs": share}).kept) for share in (0.3, 0.5, 0.7, 0.9)]
        assert all(np.diff(amounts) >= 0)


def test_of_groups_that_cost_alike_the_important_one_stays():
    module = nn.Sequential(*(nn.Conv2d(8, 8, 1) for _ in range(4)))
    with torch.no_grad():
        for layer, size in zip(module, (1.0, 0.01, 1.0, 1.0)):
            layer.weight.fill_(size)
    kept = planner_for(module, (8, 4, 4), align="off").by_budget("knapsack", {"macs": 0.6}).kept
    assert kept[1] < kept[0]
    assert kept[1] < kept[2]


def test_room_is_given_back_first_where_alignment_took_most_then_where_it_matters_most():
    module = nn.Sequential(*(nn.Conv2d(16, 16, 1) for _ in range(3)))
    planner = planner_for(module, (16, 2, 2), align=8)
    low = np.array([8, 8])
    for wished, expected in (([11, 9], [16, 8]), ([9, 11], [8, 16])):
        given = planner._refilled(planner.widths, low, np.array(wished), {"channels": 24})
        assert given.tolist() == expected
    assert low.tolist() == [8, 8]
    for important in (0, 1):
        with torch.no_grad():
            for number, layer in enumerate(module):
                layer.weight.fill_(2.0 if number == important else 1.0)
        planner = planner_for(module, (16, 2, 2), align=8)
        given = planner._refilled(planner.widths, low, np.array([9, 9]), {"channels": 24})
        assert given[important] == 16
        assert given.sum() == 24


def test_the_channel_that_would_come_back_next_decides_who_gets_it_back():
    module = nn.Sequential(*(nn.Conv2d(16, 16, 1) for _ in range(3)))
    with torch.no_grad():
        module[0].weight.copy_(torch.arange(1.0, 17.0)[:, None, None, None].expand(16, 16, 1, 1))
        module[1].weight.fill_(8.5)  # eight stay of each: the next of the first layer has 8, the one after it 9
    planner = planner_for(module, (16, 2, 2), align=8)
    given = planner._refilled(planner.widths, np.array([8, 8]), np.array([9, 9]), {"channels": 24})
    assert given.tolist() == [8, 16]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_of_several_reckonings_the_fullest_counts(monkeypatch, order):
    _, planner = unfriendly()
    options = planner.widths.allowed
    worth = [worth_of(scores, own) for scores, own in zip(planner._sorted, options)]
    plans = [np.array([own[index] for own in options]) for index in (0, 1, 2)]
    found = [plans[index] for index in order]
    monkeypatch.setattr("edgecr.surgery.planning.weighing._reckoned", lambda *_: found.pop(0) if found else None)
    best = weighed(planner.figures["macs"], 10**9, options, worth, planner.cost.widths)
    assert best.tolist() == plans[2].tolist()


def test_layers_that_stay_whole_are_no_channels_that_could_go():
    _, planner = unfriendly(exclude=("left", "one"))
    whole = [group for group in planner.graph.groups if {"left", "one"}.isdisjoint(group.layers)]
    free = sum(group.width for group in whole)
    assert free < planner.cost.widths.sum()
    assert planner.figure("channels", planner.cost.widths) == free
    plan = planner.by_sparsity("global", 0.5)
    assert sum(map(len, plan.removed)) == round(0.5 * free)
