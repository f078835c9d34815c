"""The exact multiple-choice knapsack: one option of each group, the most value within a budget.

HALP states latency-aware pruning as a knapsack in which a bundle of channels may only be kept when all more important
bundles of its layer are kept too. Under that rule a layer's choice is just *how many* bundles stay, so the problem
is a multiple-choice knapsack with one prefix length for each layer, which dynamic programming solves exactly.
(The 0/1 table with a look-back check that was published with the method misses the optimum on some instances.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecr.core.errors import BudgetError


@dataclass(frozen=True)
class Solution:
    """The best choices for a capacity and for every smaller one."""

    costs: Sequence[NDArray[np.int64]]
    best: NDArray[np.float64]
    """The most value with a total cost of at most each capacity."""
    choices: Sequence[NDArray[np.int16]]

    @property
    def cheapest(self) -> int:
        """The smallest capacity that holds one option of each group."""
        return sum(int(cost.min()) for cost in self.costs)

    def within(self, capacity: int) -> list[int]:
        """The index of the chosen option in each group, for a capacity up to the one that was solved."""
        return _trace_back(self.choices, self.costs, int(self.best[: capacity + 1].argmax()))


def choose(values: Sequence[NDArray[np.float64]], costs: Sequence[NDArray[np.int64]], capacity: int) -> list[int]:
    """The index of the chosen option in each group; costs are whole, not negative, and add up to at most capacity."""
    return solve(values, costs, capacity).within(capacity)


def solve(values: Sequence[NDArray[np.float64]], costs: Sequence[NDArray[np.int64]], capacity: int) -> Solution:
    """The knapsack for all capacities up to one."""
    cheapest = sum(int(cost.min()) for cost in costs)
    if cheapest > capacity:
        raise BudgetError(f"The budget of {capacity:,} units cannot be met: the least possible is {cheapest:,}.")
    best = np.zeros(capacity + 1)
    choices = []
    for value, cost in zip(values, costs):
        best, choice = _add_group(best, value, cost)
        choices.append(choice)
    return Solution(costs, best, choices)


def _add_group(
    best: NDArray[np.float64], value: NDArray[np.float64], cost: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int16]]:
    """``best[c]`` is the most value with a total cost of at most ``c``; adds one group to it."""
    capacity = len(best) - 1
    total = np.full(capacity + 1, -np.inf)
    choice = np.full(capacity + 1, -1, np.int16)
    for option in _worthwhile(value, cost):
        price = int(cost[option])
        if price > capacity:
            continue
        reached = best[: capacity + 1 - price] + value[option]
        window = total[price:]
        better = reached > window
        window[better] = reached[better]
        choice[price:][better] = option
    return total, choice


def _worthwhile(value: NDArray[np.float64], cost: NDArray[np.int64]) -> list[int]:
    """The options that no other one beats in both value and cost, cheapest first."""
    kept: list[int] = []
    for option in np.lexsort((-value, cost)).tolist():
        if not kept or value[option] > value[kept[-1]]:
            kept.append(option)
    return kept


def _trace_back(choices: Sequence[NDArray[np.int16]], costs: Sequence[NDArray[np.int64]], capacity: int) -> list[int]:
    chosen: list[int] = []
    for choice, cost in zip(reversed(choices), reversed(costs)):
        option = int(choice[capacity])
        chosen.append(option)
        capacity -= int(cost[option])
    return chosen[::-1]
