"""The choice of widths by importance against one figure, solved as an exact knapsack.

HALP (Shen et al. 2022) charges a channel the cost of the layers that make it with the inputs they have now, although
the layers that read it become cheaper too. Here the resulting widths give the inputs of the next pass, and each pass
yields the fullest solution whose real figure keeps the budget.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgecr.surgery.planning.cost import Counts
from edgecr.surgery.planning.figures import BudgetFigure
from edgecr.surgery.planning.knapsack import Solution, solve
from edgecr.surgery.scoring.scores import Values
from edgecr.surgery.tracing.slots import Ids

UNITS = 4000
"""Into how many units a whole budget is cut; costs are rounded to them, the figure itself is not."""
RECKONINGS = 4


def weighed(
    figure: BudgetFigure, amount: int, options: Sequence[Ids], worth: Sequence[Values], start: Counts
) -> Counts | None:
    """The widths with the most worth whose figure stays within the amount; None if none was found.

    ``worth`` holds a value for each width of each group; ``start`` the widths whose inputs count first.
    """
    reference, best, most = start, None, -np.inf
    for _ in range(RECKONINGS):
        found = _reckoned(figure, amount, options, worth, reference)
        if found is None:
            break
        value = sum(float(own[widths == kept][0]) for own, widths, kept in zip(worth, options, found))
        if value > most:
            best, most = found, value
        if (found == reference).all():
            break
        reference = found
    return best


def worth_of(ordered: Values, widths: Ids) -> Values:
    """The importance of the most important channels together, for several numbers of them."""
    finite = ordered[np.isfinite(ordered)]
    sums = np.concatenate([[0.0], np.cumsum(finite[::-1])])
    result: Values = sums[widths]
    return result


def charges(figure: BudgetFigure, options: Sequence[Ids], reference: Counts) -> list[Counts]:
    """Returns the cost of each width of each group in the parts that the group owns, all other widths held fixed."""
    return [figure.charges(reference, number, widths) for number, widths in enumerate(options)]


def _reckoned(
    figure: BudgetFigure, amount: int, options: Sequence[Ids], worth: Sequence[Values], reference: Counts
) -> Counts | None:
    """The fullest solution that keeps the budget, when layers cost what they do with these inputs."""
    costs = charges(figure, options, reference)
    unit = max(1, math.ceil(sum(int(cost.max()) for cost in costs) / UNITS))
    scaled = [-(-cost // unit) for cost in costs]
    solution = solve(worth, scaled, sum(int(cost.max()) for cost in scaled))
    return _fullest(solution, figure, amount, options)


def _fullest(solution: Solution, figure: BudgetFigure, amount: int, options: Sequence[Ids]) -> Counts | None:
    """Searches the largest capacity whose solution really keeps the budget."""
    low, high, best = solution.cheapest, len(solution.best) - 1, None
    while low <= high:
        middle = (low + high) // 2
        kept = np.array([own[index] for own, index in zip(options, solution.within(middle))], dtype=np.int64)
        if figure(kept) <= amount:
            best, low = kept, middle + 1
        else:
            high = middle - 1
    return best
