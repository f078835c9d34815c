"""Plans by measured latency: a table's times as a figure that a budget can limit, and plans that rest on nothing else.

The latency of a plan is always that of the widths that it leaves, inputs included; HALP's own reckoning, in which a
layer's inputs stay as they are until the next step, only serves to weigh channels against one another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from edgecr.core.errors import BudgetError, WorkError
from edgecr.latency import LatencyTable, LayerConfig, MissingEntry
from edgecr.surgery.planning.amounts import LATENCY
from edgecr.surgery.planning.cost import Counts
from edgecr.surgery.planning.latency_figure import latency_figure
from edgecr.surgery.planning.layers import LayerSizes, reachable
from edgecr.surgery.planning.plan import Plan, Planner
from edgecr.surgery.planning.schedule import neurons_left

MOST_ROUNDS = 12
"""Measurements of what a plan came upon; each one makes the table larger where plans go."""

Measure = Callable[[LatencyTable, Sequence[LayerConfig]], LatencyTable]
"""The table with these layers measured too."""


@dataclass(frozen=True)
class Timed:
    """A plan, and the table that it rests on: every layer that it leaves is in there."""

    plan: Plan
    table: LatencyTable
    estimated: tuple[str, ...] = ()
    """The layers that it leaves whose times were still interpolated when it was chosen; they were measured since."""


def plan_by_latency(
    planner: Planner, batch: int, table: LatencyTable, measure: Measure, choose: Callable[[Planner], Plan]
) -> Timed:
    """Plans with estimates, has what the plan leaves measured, and plans again until nothing is estimated.

    What a table lacks decides nothing in the end (or the plan says so): one that was measured further gives the same
    plan as one that is measured further only now, and an interrupted pruning ends as an undisturbed one does.
    """
    sizes = LayerSizes(planner.cost.module, planner.graph, batch)
    table = _measured(table, sizes.configurations(planner.cost.widths), measure)
    plan, estimated = None, tuple[str, ...]()
    for _ in range(MOST_ROUNDS):
        planner.figures[LATENCY] = latency_figure(sizes, table)
        try:
            plan = choose(planner)
        except MissingEntry:  # too little is known to interpolate
            table = _measured(table, _everything(sizes, planner), measure)
            continue
        except BudgetError:
            least = sizes.configurations(planner.widths.least)
            if not table.missing(least):
                raise
            table = _measured(table, least, measure)  # nothing is refused because of an estimate
            continue
        left = sizes.configurations(plan.kept)
        estimated = tuple(config.key for config in table.missing(left))
        if not estimated:
            break
        table = _measured(table, left, measure)
    if plan is None:
        raise WorkError("The latency table still lacks layers after they were measured.")
    planner.figures[LATENCY] = latency_figure(sizes, table)
    return Timed(plan, table, estimated)


def _everything(sizes: LayerSizes, planner: Planner) -> list[LayerConfig]:
    """Layers between which the times of all others can be interpolated."""
    return [*reachable(sizes, planner.limits), *corners(sizes, planner.widths.least)]


def corners(sizes: LayerSizes, least: Counts) -> Iterator[LayerConfig]:
    """Each layer with the most and the fewest inputs and outputs: between them everything can be interpolated."""
    for dense, small in zip(sizes.configurations(sizes.widths), sizes.configurations(least)):
        if dense.tied:
            yield from (dense, small)
            continue
        for cin, cout in product({dense.cin, small.cin}, {dense.cout, small.cout}):
            yield replace(dense, cin=cin, cout=cout)


def _measured(table: LatencyTable, layers: Sequence[LayerConfig], measure: Measure) -> LatencyTable:
    missing = table.missing(layers)
    return measure(table, missing) if missing else table


def amounts_after(step: int, steps: int, dense: dict[str, int], left: dict[str, int]) -> dict[str, int]:
    """The budgets after a step of several; each one takes the same fraction of what is there."""
    return {
        name: min(int(neurons_left(step, steps, dense[name], amount)), dense[name]) if step < steps else amount
        for name, amount in left.items()
    }
