"""The choice of channels to remove: scores ranked per layer or over all groups, until a sparsity or a budget is met."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal

import numpy as np

from edgecr.core.errors import RequestError, WorkError
from edgecr.surgery.changes.cut import ChannelCut, GroupCut, SettingCut, TensorCut, as_text
from edgecr.surgery.planning.amounts import CHANNELS, LATENCY
from edgecr.surgery.planning.cost import Cost, Counts
from edgecr.surgery.planning.exact import best_widths
from edgecr.surgery.planning.figures import channel_figure, counted_figures
from edgecr.surgery.planning.unreachable import Short, Unreachable
from edgecr.surgery.planning.weighing import weighed, worth_of
from edgecr.surgery.planning.widths import Allowed, Limits, Widths, allowed_by
from edgecr.surgery.scoring.scores import Values, ranked
from edgecr.surgery.tracing.graph import ChannelGraph
from edgecr.surgery.tracing.slots import Ids
from edgecr.surgery.tracing.trace import SettingMember, TensorMember

Scope = Literal["layer", "global", "knapsack", "measured"]
"""Comparison of channels: within their layer, all together, by importance or by measured loss against cost."""
ROOM = 1.5
"""Automatic alignment leaves whole blocks if this many times as much as asked could go: a choice must be left."""
LEVELS = 1 << 24
"""Resolution of the search for the share that is removed from every layer."""
Allocation = Callable[[float], Counts | Values]
"""The channels that each group keeps at a level between 0 (all of them) and 1 (as few as there may be)."""


@dataclass(frozen=True)
class Plan:
    """The number of channels that each group keeps, and the channels that are removed."""

    graph: ChannelGraph
    kept: Counts
    removed: tuple[Ids, ...]

    def cut(self, why: str = "") -> ChannelCut:
        """The removal as a record."""
        gone: dict[tuple[str, int], list[Ids]] = {}
        text = cache(lambda row: as_text(np.frombuffer(row, dtype=np.int64)))
        members: dict[tuple[str, int], TensorMember] = {}
        counts: dict[tuple[str, str], int] = {}
        for group, channels in zip(self.graph.groups, self.removed):
            for place in group.tensors if len(channels) else ():
                key = (place.member.tensor, place.member.dim)
                gone.setdefault(key, []).append(place.positions[channels].ravel())
                members[key] = place.member
            for setting in group.settings:
                _count_settings(setting.member, setting.positions[channels].ravel(), counts)
        return ChannelCut(
            tensors=tuple(
                TensorCut(
                    tensor=member.tensor,
                    dim=member.dim,
                    removed=text(np.concatenate(gone[key]).tobytes()),
                    role=member.role,
                    closes=member.closes,
                )
                for key, member in members.items()
            ),
            settings=tuple(SettingCut(module=m, setting=s, value=v) for (m, s), v in counts.items()),
            groups=tuple(
                GroupCut(group=group.name, width=group.width, removed=len(channels))
                for group, channels in zip(self.graph.groups, self.removed)
                if len(channels)
            ),
            why=why,
        )


def _count_settings(member: SettingMember, positions: Ids, counts: dict[tuple[str, str], int]) -> None:
    """Takes removed positions from the attributes that own them."""
    start = 0
    for setting, size in member.counts:
        key = (member.layer, setting)
        inside = int(((positions >= start) & (positions < start + size)).sum())
        counts[key] = counts.get(key, size) - inside
        start += size


class Planner:
    """Turns scores into plans under limits; all counting is arithmetic on shapes.

    ``allowed`` and ``dead`` carry on an earlier pruning: the model that it began with stays the reference of what may
    be kept and of what counts, and its channels never return. ``allocation`` says how ``scope: layer`` shares out what
    goes; without one it is the same fraction everywhere.
    """

    def __init__(
        self,
        graph: ChannelGraph,
        cost: Cost,
        values: Sequence[Values],
        limits: Limits,
        *,
        allowed: Allowed | None = None,
        dead: Sequence[Ids] = (),
        allocation: Allocation | None = None,
    ) -> None:
        self.graph, self.cost, self.limits = graph, cost, limits
        self.allowed = allowed or allowed_by(graph, limits)
        self.allowed.check(graph)
        self.values = _without_dead(graph, values, dead)
        self.current = np.array([int(np.isfinite(value).sum()) for value in self.values], dtype=np.int64)
        self.widths = Widths.up_to(self.current, graph, self.allowed)
        self.blocks = self.widths.in_blocks(graph, limits)
        removable = np.isin([group.name for group in graph.groups], self.allowed.removable)
        channels = channel_figure(removable, self.allowed.elsewhere(graph))
        self.figures = {**counted_figures(cost), CHANNELS: channels}
        self._allocation = allocation or self._same_fraction
        self.worth: Sequence[Values] | None = None
        """A value for each allowed width of each group, for ``scope: measured``."""

    def figure(self, name: str, kept: Counts) -> int:
        """One figure by its name in a budget."""
        return self.figures[name](kept)

    def loss_of(self, kept: Counts) -> float:
        """The measured loss of widths, where these have values."""
        assert self.worth is not None
        places = [int(np.searchsorted(own, count)) for own, count in zip(self.widths.allowed, kept)]
        return -sum(float(worth[place]) for worth, place in zip(self.worth, places))

    def wished(self, scope: Scope, share: float) -> Counts | Values:
        """The channels, or parts of one, that each group would keep when this share of all goes, before limits."""
        if scope == "layer":
            return self._allocation(share)
        widths = self.cost.widths
        return widths - np.bincount(self._ranking[: round(share * len(self._ranking))], minlength=len(widths))

    def _same_fraction(self, share: float) -> Values:
        """The same fraction of every group as it was when the pruning began."""
        return np.array([(1 - share) * self.allowed.widths[group.name] for group in self.graph.groups])

    @cached_property
    def _ranking(self) -> Ids:
        """The group of each channel, from the least important channel of all on."""
        owner = np.repeat(np.arange(len(self.values)), [len(value) for value in self.values])
        order = ranked(np.concatenate(self.values))
        ranking: Ids = owner[order]
        return ranking

    def by_sparsity(self, scope: Scope, sparsity: float) -> Plan:
        """Removes this fraction of all channels that may go."""
        return self.by_budget(scope, self.share_left(sparsity))

    def share_left(self, sparsity: float) -> dict[str, int]:
        """The budget in channels that a sparsity leaves."""
        total = self.figure(CHANNELS, self.cost.widths)
        return {CHANNELS: total - round(sparsity * total)}

    def by_budget(self, scope: Scope, shares: Mapping[str, int | float]) -> Plan:
        """Removes as little as keeps every figure within its budget (fractions are of the model as it is)."""
        budget = self.amounts(shares)
        if not self._within(self.widths.least, budget) or (CHANNELS in budget and not self.allowed.removable):
            raise self._unreachable(scope, budget)
        widths = self.widths if scope == "measured" else self.suitable(budget)
        wished = self._wished(widths, scope, budget)
        return self._plan(self._refilled(widths, widths.aligned(wished), wished, budget))

    def suitable(self, budget: Mapping[str, int]) -> Widths:
        """Whole blocks if they leave a choice; a measured latency tells by itself which widths pay."""
        if LATENCY in budget:
            return self.widths
        for name, amount in budget.items():
            now, least = self.figure(name, self.cost.widths), self.figure(name, self.blocks.least)
            if now - least < ROOM * (now - amount):
                return self.widths
        return self.blocks

    def _ranked(self, widths: Widths, scope: Scope, budget: Mapping[str, int]) -> Counts | Values:
        """Returns the channels per group, before limits, at the smallest removed share that meets the budget."""
        steps = LEVELS if scope == "layer" else len(self._ranking)
        low, high = 0, steps
        while low < high:
            middle = (low + high) // 2
            if self._within(widths.aligned(self.wished(scope, middle / steps)), budget):
                high = middle
            else:
                low = middle + 1
        return self.wished(scope, high / steps)

    def _wished(self, widths: Widths, scope: Scope, budget: Mapping[str, int]) -> Counts | Values:
        """The channels per group that the scope chooses, before limits."""
        if scope not in ("knapsack", "measured"):
            return self._ranked(widths, scope, budget)
        if len(budget) != 1:
            raise RequestError(f"scope: {scope} weighs channels against one figure; name one in the budget.")
        ((name, amount),) = budget.items()
        figure, found = self.figures[name], None
        if scope == "measured":
            if self.worth is None:
                raise RequestError("scope: measured needs values of widths; run it as a prune step with images.")
            worth = self.worth
            found = best_widths(figure, amount, widths.allowed, worth)
        else:
            worth = [worth_of(scores, own) for scores, own in zip(self._sorted, widths.allowed)]
        if found is None:
            found = weighed(figure, amount, widths.allowed, worth, widths.aligned(self.current))
        return widths.least if found is None else found

    def amounts(self, shares: Mapping[str, int | float]) -> dict[str, int]:
        """Budgets as absolute figures."""
        widths = self.cost.widths
        return {
            name: share if isinstance(share, int) else math.floor(share * self.figure(name, widths))
            for name, share in shares.items()
        }

    def _within(self, kept: Counts, budget: Mapping[str, int]) -> bool:
        return all(self.figure(name, kept) <= amount for name, amount in budget.items())

    def _refilled(self, widths: Widths, kept: Counts, wished: Counts | Values, budget: Mapping[str, int]) -> Counts:
        """Gives back single steps while any fits, first where alignment took most, then what matters most."""
        kept, room = kept.copy(), {name: amount - self.figure(name, kept) for name, amount in budget.items()}
        while True:
            before = kept.copy()
            for number in np.lexsort((-self._next_scores(kept), (kept - wished) / self.cost.widths)):
                larger = widths.allowed[number][widths.allowed[number] > kept[number]]
                if not len(larger):
                    continue
                more = {name: self.figures[name].change(kept, number, larger[0]) for name in budget}
                if all(more[name] <= room[name] for name in budget):
                    kept[number] = larger[0]
                    room = {name: room[name] - more[name] for name in budget}
            if (kept == before).all():
                return kept

    def _next_scores(self, kept: Counts) -> Values:
        """The score of the channel that each group would get back next."""
        scores = [ordered[-min(count + 1, len(ordered))] for ordered, count in zip(self._sorted, kept)]
        return np.array(scores, dtype=np.float64)

    @cached_property
    def _sorted(self) -> list[Values]:
        return [np.sort(value) for value in self.values]

    def _unreachable(self, scope: Scope, budget: Mapping[str, int]) -> Unreachable:
        kept = self.widths.least
        found = [
            Short(name, amount, self.figure(name, kept), self.figure(name, self.cost.widths))
            for name, amount in budget.items()
        ]
        loss = self.loss_of(kept) if scope == "measured" and self.worth is not None else None
        return Unreachable([one for one in found if one.least > one.asked], loss, fixed=not self.allowed.removable)

    def _plan(self, kept: Counts) -> Plan:
        orders = [ranked(value) for value in self.values]
        removed = [np.sort(order[: len(order) - count]) for order, count in zip(orders, kept)]
        return Plan(self.graph, kept, tuple(removed))


def _without_dead(graph: ChannelGraph, values: Sequence[Values], dead: Sequence[Ids]) -> list[Values]:
    """The scores, below all others where channels are gone already; scores that are no numbers are refused."""
    result = []
    for number, (group, value) in enumerate(zip(graph.groups, values)):
        if not np.isfinite(value).all():
            raise WorkError(
                f"The importance of some channels of {group.name} is not a number; the weights or the data that it "
                "was computed from are broken (NaN or infinite)."
            )
        value = np.array(value, dtype=np.float64)
        if len(dead):
            value[dead[number]] = -np.inf
        result.append(value)
    return result
