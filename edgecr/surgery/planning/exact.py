"""The best widths by a worth for each, exact where groups fall apart once the widths of a few others are fixed.

In residual networks the widths of the streams decide what the layers inside their blocks read. With these fixed, the
inner groups share no layer, their costs add up, and a multiple-choice knapsack gives the best of all plans.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from edgecr.surgery.planning.cost import Counts
from edgecr.surgery.planning.figures import BudgetFigure
from edgecr.surgery.planning.knapsack import solve
from edgecr.surgery.planning.weighing import UNITS
from edgecr.surgery.scoring.scores import Values
from edgecr.surgery.tracing.slots import Ids

MOST = 4_000
"""Combinations of widths that are tried; with more the groups are weighed in passes instead."""


def best_widths(figure: BudgetFigure, amount: int, options: Sequence[Ids], worth: Sequence[Values]) -> Counts | None:
    """The widths with the most worth whose figure stays within the amount; None if there are too many combinations.

    The least widths are the answer where nothing better keeps the budget.
    """
    inner = apart(figure, options)
    outer = [number for number in range(len(options)) if number not in inner]
    if math.prod(len(options[number]) for number in outer) > MOST:
        return None
    best = np.array([own[0] for own in options], dtype=np.int64)
    most = -np.inf
    for chosen, start in _combinations(outer, options, worth, sum(float(worth[n].max()) for n in inner)):
        if start <= most:
            break
        found = _with(figure, amount, options, worth, inner, chosen)
        if found is not None and found[1] > most:
            best, most = found
    return best


def apart(figure: BudgetFigure, options: Sequence[Ids]) -> list[int]:
    """Groups of which no two change the same part of the figure: the ones with the fewest such neighbours first."""
    parts = [set(figure.parts.touched(number).tolist()) for number in range(len(options))]
    meets = [
        sum(bool(own & other) for other in parts) if len(options[number]) > 1 else -1
        for number, own in enumerate(parts)
    ]
    chosen: list[int] = []
    taken: set[int] = set()
    for number in sorted(range(len(options)), key=lambda n: (meets[n], n)):
        if not parts[number] & taken:
            chosen.append(number)
            taken |= parts[number]
    return sorted(chosen)


def _combinations(
    outer: Sequence[int], options: Sequence[Ids], worth: Sequence[Values], rest: float
) -> Iterator[tuple[dict[int, int], float]]:
    """Widths of the outer groups, the ones with the highest bound on the worth of the whole plan first."""
    found = []
    for places in product(*(range(len(options[number])) for number in outer)):
        bound = rest + sum(float(worth[number][place]) for number, place in zip(outer, places))
        found.append((bound, {number: int(options[number][place]) for number, place in zip(outer, places)}))
    for bound, chosen in sorted(found, key=lambda one: -one[0]):
        yield chosen, bound


def _with(
    figure: BudgetFigure,
    amount: int,
    options: Sequence[Ids],
    worth: Sequence[Values],
    inner: Sequence[int],
    chosen: dict[int, int],
) -> tuple[Counts, float] | None:
    """The best inner widths beside fixed outer ones, and the worth of all; None where the budget cannot be kept."""
    kept = np.array([own[0] for own in options], dtype=np.int64)
    for number, width in chosen.items():
        kept[number] = width
    costs = [figure.parts.along(kept, number, options[number], figure.parts.touched(number)).sum(1) for number in inner]
    room = amount - (figure(kept) - sum(int(cost[0]) for cost in costs))
    if room < sum(int(cost.min()) for cost in costs):
        return None
    picked = _picked([worth[number] for number in inner], costs, room)
    for number, place in zip(inner, picked):
        kept[number] = options[number][place]
    total = sum(float(worth[n][np.searchsorted(options[n], kept[n])]) for n in [*chosen, *inner])
    return kept, total


def _picked(worth: Sequence[Values], costs: Sequence[Counts], room: int) -> list[int]:
    """The options with the most worth whose costs fit; costs are rounded up to units, so a bit more room is tried."""
    unit = max(1, math.ceil(room / UNITS))
    scaled = [-(-cost // unit) for cost in costs]
    capacity = min(room // unit + len(costs), sum(int(cost.max()) for cost in scaled))
    least = sum(int(cost.min()) for cost in scaled)
    solution = solve(worth, scaled, max(capacity, least))
    for tried in range(len(solution.best) - 1, least - 1, -1):
        picked = solution.within(tried)
        if sum(int(cost[place]) for cost, place in zip(costs, picked)) <= room:
            return picked
    return [int(cost.argmin()) for cost in costs]
