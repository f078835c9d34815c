"""The knapsack equals brute force, and its budget is never broken."""

import itertools

import numpy as np
import pytest

from edgecr.errors import BudgetError
from edgecr.surgery.knapsack import choose


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
