"""Which channels go: scores ranked per layer or over all groups, until a sparsity or a budget is met."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal

import numpy as np

from edgecr.errors import BudgetError, RequestError, WorkError, suggestion
from edgecr.surgery.cost import Cost, Counts
from edgecr.surgery.figures import CHANNELS, channel_figure, counted_figures, in_words
from edgecr.surgery.graph import ChannelGraph, Group, Place
from edgecr.surgery.removal import ChannelCut, GroupCut, SettingCut, TensorCut, as_text
from edgecr.surgery.scores import Values, ranked
from edgecr.surgery.slots import Ids
from edgecr.surgery.trace import SettingMember, TensorMember
from edgecr.surgery.weighing import weighed

Scope = Literal["layer", "global", "knapsack"]
"""Whether channels are compared within their layer, all together, or by what they bring for what they cost."""
STEPS_AT_LEAST = 3
"""Automatic alignment takes the largest multiple that still leaves a group this many widths."""
MULTIPLES = (16, 8, 4, 2)
"""What automatic alignment tries; 16 fills the vector registers of current processors."""


@dataclass(frozen=True)
class Limits:
    """What a plan must respect in every group."""

    align: Literal["auto", "off"] | int = "auto"
    min_channels: int = 1
    min_fraction: float = 0.0
    keep: tuple[str, ...] = ()
    max_fraction: float = 1.0
    multiples: tuple[int, ...] = MULTIPLES
    """What automatic alignment tries, the largest first."""


@dataclass(frozen=True)
class Plan:
    """How many channels each group keeps, and which ones go."""

    graph: ChannelGraph
    kept: Counts
    removed: tuple[Ids, ...]

    @cached_property
    def sparsity(self) -> float:
        """Fraction of the prunable channels that goes."""
        total = sum(group.width for group in self.graph.groups)
        return sum(map(len, self.removed)) / total if total else 0.0

    def cut(self, why: str = "") -> ChannelCut:
        """The removal as a record."""
        gone: dict[tuple[str, int], list[Ids]] = {}
        text = cache(lambda row: as_text(np.frombuffer(row, dtype=np.int64)))
        roles: dict[tuple[str, int], Literal["out", "in"]] = {}
        counts: dict[tuple[str, str], int] = {}
        for group, channels in zip(self.graph.groups, self.removed):
            for place in group.tensors if len(channels) else ():
                key = (place.member.tensor, place.member.dim)
                gone.setdefault(key, []).append(place.positions[channels].ravel())
                roles[key] = place.member.role
            for setting in group.settings:
                _count_settings(setting.member, setting.positions[channels].ravel(), counts)
        return ChannelCut(
            tensors=tuple(
                TensorCut(tensor=name, dim=dim, removed=text(np.concatenate(rows).tobytes()), role=roles[name, dim])
                for (name, dim), rows in gone.items()
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


Allowed = Mapping[str, Ids]
"""The channel counts that each group may keep, by its name."""


class Planner:
    """Turns scores into plans under limits; all counting is arithmetic on shapes.

    ``allowed`` and ``dead`` carry on an earlier pruning: its widths stay allowed, and its channels never return.
    """

    def __init__(
        self, graph: ChannelGraph, cost: Cost, values: Sequence[Values], limits: Limits,
        *, allowed: Allowed | None = None, dead: Sequence[Ids] = (),
    ) -> None:
        self.graph, self.cost, self.limits = graph, cost, limits
        self.values = _without_dead(graph, values, dead)
        self.current = np.array([int(np.isfinite(value).sum()) for value in self.values], dtype=np.int64)
        widths = allowed or allowed_by(graph, limits)
        self.allowed = [_up_to(widths[group.name], count) for group, count in zip(graph.groups, self.current)]
        self._nearest = [_nearest_allowed(allowed) for allowed in self.allowed]
        self.figures = {**counted_figures(cost), CHANNELS: channel_figure(self.least < cost.widths)}

    @cached_property
    def least(self) -> Counts:
        """The fewest channels that each group may keep."""
        return np.array([allowed[0] for allowed in self.allowed], dtype=np.int64)

    def aligned(self, kept: Counts) -> Counts:
        """The nearest widths that the limits allow."""
        pairs = zip(self._nearest, kept)
        return np.array([nearest[min(count, len(nearest) - 1)] for nearest, count in pairs], dtype=np.int64)

    def figure(self, name: str, kept: Counts) -> int:
        """One figure by its name in a budget."""
        return self.figures[name](kept)

    def wished(self, scope: Scope, count: float) -> Counts:
        """The channels that each group keeps when this many go, before limits."""
        widths, total = self.cost.widths, int(self.cost.widths.sum())
        if scope == "layer":
            return widths - np.round(count / max(total, 1) * widths).astype(np.int64)
        return widths - np.bincount(self._ranking[: int(count)], minlength=len(widths))

    @cached_property
    def _ranking(self) -> Ids:
        """The group of each channel, from the least important channel of all on."""
        owner = np.repeat(np.arange(len(self.values)), [len(value) for value in self.values])
        order = ranked(np.concatenate(self.values))
        ranking: Ids = owner[order]
        return ranking

    def by_sparsity(self, scope: Scope, sparsity: float) -> Plan:
        """Removes this fraction of every group, or of all channels that may go."""
        if scope == "layer":
            count = sparsity * int(self.cost.widths.sum())
            return self._plan(self.aligned(self.wished(scope, count)))
        return self.by_budget(scope, self.share_left(sparsity))

    def share_left(self, sparsity: float) -> dict[str, int]:
        """The budget in channels that a sparsity leaves."""
        total = self.figure(CHANNELS, self.cost.widths)
        return {CHANNELS: total - round(sparsity * total)}

    def by_budget(self, scope: Scope, shares: Mapping[str, int | float]) -> Plan:
        """Removes as little as keeps every figure within its budget (fractions are of the model as it is)."""
        budget = self.amounts(shares)
        if not self._within(self.least, budget):
            raise BudgetError(self._unreachable(budget))
        wished = self._weighed(budget) if scope == "knapsack" else self._ranked(scope, budget)
        return self._plan(self._refilled(self.aligned(wished), wished, budget))

    def _ranked(self, scope: Scope, budget: Mapping[str, int]) -> Counts:
        """What is left when the least important channels go, as few as it takes."""
        low, high = 0, int(self.cost.widths.sum())
        while low < high:
            middle = (low + high) // 2
            if self._within(self.aligned(self.wished(scope, middle)), budget):
                high = middle
            else:
                low = middle + 1
        return self.wished(scope, high)

    def _weighed(self, budget: Mapping[str, int]) -> Counts:
        """The most importance that fits into the budget of one figure."""
        if len(budget) != 1:
            raise RequestError("scope: knapsack weighs importance against one figure; name one in the budget.")
        ((name, amount),) = budget.items()
        found = weighed(self.figures[name], amount, self.allowed, self._sorted, self.aligned(self.current))
        return self.least if found is None else found

    def amounts(self, shares: Mapping[str, int | float]) -> dict[str, int]:
        """Budgets as absolute figures."""
        widths = self.cost.widths
        return {
            name: share if isinstance(share, int) else math.floor(share * self.figure(name, widths))
            for name, share in shares.items()
        }

    def _within(self, kept: Counts, budget: Mapping[str, int]) -> bool:
        return all(self.figure(name, kept) <= amount for name, amount in budget.items())

    def _refilled(self, kept: Counts, wished: Counts, budget: Mapping[str, int]) -> Counts:
        """Gives back single steps while any fits, first where alignment took most, then what matters most."""
        while True:
            before = kept.copy()
            for number in np.lexsort((-self._next_scores(kept), (kept - wished) / self.cost.widths)):
                larger = self.allowed[number][self.allowed[number] > kept[number]]
                trial = kept.copy()
                trial[number] = larger[0] if len(larger) else kept[number]
                if self._within(trial, budget):
                    kept = trial
            if (kept == before).all():
                return kept

    def _next_scores(self, kept: Counts) -> Values:
        """The score of the channel that each group would get back next."""
        scores = [ordered[-min(count + 1, len(ordered))] for ordered, count in zip(self._sorted, kept)]
        return np.array(scores, dtype=np.float64)

    @cached_property
    def _sorted(self) -> list[Values]:
        return [np.sort(value) for value in self.values]

    def _unreachable(self, budget: Mapping[str, int]) -> str:
        parts = []
        for name, amount in budget.items():
            dense, least = self.figure(name, self.cost.widths), self.figure(name, self.least)
            if least > amount:
                share = f"{least / dense:.1%} of {in_words(name, dense)}"
                request = f"{name}: {in_words(name, amount)} may remain"
                parts.append(f"{request}, {in_words(name, least)} is the least ({share})")
        return (
            "This cannot be met by removing channels: " + "; ".join(parts) + ". "
            "Ask for less removal, or loosen `keep`, `min_channels`, `min_fraction` or `align`."
        )

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


def allowed_by(graph: ChannelGraph, limits: Limits) -> dict[str, Ids]:
    """The channel counts that limits allow each group, by its name."""
    dense = matched_layers(graph, limits.keep)
    return {
        group.name: np.array([group.width]) if dense.intersection(group.layers) else allowed_widths(group, limits)
        for group in graph.groups
    }


def _up_to(allowed: Ids, most: int) -> Ids:
    """The counts that a group of which this many channels are left can still keep."""
    fitting = allowed[allowed <= most]
    return fitting if len(fitting) else np.array([most], dtype=np.int64)


def allowed_widths(group: Group, limits: Limits) -> Ids:
    """The channel counts that a group may keep: its width, multiples below it, fractions of the first."""
    multiple = step(group, limits.align, limits.multiples)
    widths = {group.width, *range(multiple, group.width, multiple)}
    if limits.align == "auto":
        widths.update(multiple >> shift for shift in range(1, multiple.bit_length()))
    least = min(group.width, max(1, limits.min_channels, math.ceil(limits.min_fraction * group.width)))
    enough = sorted(width for width in widths if width >= least)
    most = math.floor(limits.max_fraction * group.width)
    return np.array([width for width in enough if width <= most] or enough[:1], dtype=np.int64)


def _nearest_allowed(allowed: Ids) -> Ids:
    """For each count from zero to the largest allowed one, the nearest allowed one (of two, the larger)."""
    borders = (allowed[1:] + allowed[:-1] + 1) // 2
    return allowed[np.searchsorted(borders, np.arange(allowed[-1] + 1), side="right")]


def step(group: Group, align: Literal["auto", "off"] | int, multiples: Sequence[int] = MULTIPLES) -> int:
    """In what steps the channels of a group may go, so that all its layers stay on the multiple."""
    if align == "off":
        return 1
    if isinstance(align, int):
        return _step_for(group.weights, align)
    for multiple in multiples:
        found = _step_for(group.weights, multiple)
        if group.width >= STEPS_AT_LEAST * found:
            return found
    return 1


def _step_for(weights: Sequence[Place[TensorMember]], multiple: int) -> int:
    """Channels whose positions fill the multiple in every layer that makes them."""
    return math.lcm(*(multiple // math.gcd(multiple, place.multiplicity) for place in weights))


def matched_layers(graph: ChannelGraph, patterns: Sequence[str]) -> set[str]:
    """The layers that name patterns mean; ``layer4`` also means everything inside it."""
    found: set[str] = set()
    for pattern in patterns:
        hits = {
            layer
            for layer in graph.layers
            if fnmatch.fnmatchcase(layer, pattern) or fnmatch.fnmatchcase(layer, f"{pattern}.*")
        }
        if not hits:
            raise RequestError(f"keep: no layer is called {pattern!r}. {suggestion(pattern, graph.layers)}")
        found |= hits
    return found
