"""Which channels go: scores ranked per layer or over all groups, until a sparsity or a budget is met."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from edgecr.errors import BudgetError, RequestError, suggestion
from edgecr.surgery.cost import Cost, Counts
from edgecr.surgery.graph import ChannelGraph, Group, Place
from edgecr.surgery.removal import ChannelCut, GroupCut, SettingCut, TensorCut, as_text
from edgecr.surgery.scores import Values, ranked
from edgecr.surgery.trace import SettingMember, TensorMember

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


@dataclass(frozen=True)
class Plan:
    """How many channels each group keeps, and which ones go."""

    graph: ChannelGraph
    kept: Counts
    removed: tuple[npt.NDArray[np.int64], ...]

    @cached_property
    def sparsity(self) -> float:
        """Fraction of the prunable channels that goes."""
        total = sum(group.width for group in self.graph.groups)
        return sum(map(len, self.removed)) / total if total else 0.0

    def cut(self, why: str = "") -> ChannelCut:
        """The removal as a record."""
        gone: dict[tuple[str, int], list[int]] = {}
        roles: dict[tuple[str, int], Literal["out", "in"]] = {}
        counts: dict[tuple[str, str], int] = {}
        for group, channels in zip(self.graph.groups, self.removed):
            for place in group.places if len(channels) else ():
                positions = place.positions[channels].ravel()
                if isinstance(place.member, TensorMember):
                    key = (place.member.tensor, place.member.dim)
                    gone.setdefault(key, []).extend(positions.tolist())
                    roles[key] = place.member.role
                else:
                    _count_settings(place.member, positions, counts)
        return ChannelCut(
            tensors=tuple(TensorCut(tensor=t, dim=d, removed=as_text(p), role=roles[t, d]) for (t, d), p in gone.items()),
            settings=tuple(SettingCut(module=m, setting=s, value=v) for (m, s), v in counts.items()),
            groups=tuple(
                GroupCut(group=group.name, width=group.width, removed=len(channels))
                for group, channels in zip(self.graph.groups, self.removed)
                if len(channels)
            ),
            why=why,
        )


def _count_settings(member: SettingMember, positions: npt.NDArray[np.int64], counts: dict[tuple[str, str], int]) -> None:
    """Takes removed positions from the attributes that own them."""
    start = 0
    for setting, size in member.counts:
        key = (member.layer, setting)
        inside = int(((positions >= start) & (positions < start + size)).sum())
        counts[key] = counts.get(key, size) - inside
        start += size


class Planner:
    """Turns scores into plans under limits; all counting is arithmetic on shapes."""

    def __init__(self, graph: ChannelGraph, cost: Cost, values: Sequence[Values], limits: Limits) -> None:
        self.graph, self.cost, self.limits = graph, cost, limits
        self.orders = [ranked(value) for value in values]
        self.values = values
        dense = matched_layers(graph, limits.keep)
        self.steps = np.array([step(group, limits.align) for group in graph.groups], dtype=np.int64)
        self.least = np.array([self._least(group, dense) for group in graph.groups], dtype=np.int64)

    def _least(self, group: Group, dense: set[str]) -> int:
        """The fewest channels a group may keep, on its alignment."""
        if dense.intersection(group.layers):
            return group.width
        least = max(1, self.limits.min_channels, math.ceil(self.limits.min_fraction * group.width))
        multiple = step(group, self.limits.align)
        return min(group.width, math.ceil(least / multiple) * multiple)

    def aligned(self, kept: Counts) -> Counts:
        """Snaps to the nearest multiple of each group's step; a whole group stays whole."""
        snapped = (2 * kept + self.steps) // (2 * self.steps) * self.steps
        snapped = np.clip(snapped, self.least, self.cost.widths)
        result: Counts = np.where(kept >= self.cost.widths, self.cost.widths, snapped)
        return result

    def path(self, scope: Literal["layer", "global"]) -> Counts:
        """For each amount of removal, from nothing to everything, the channels that each group keeps."""
        widths = self.cost.widths
        total = int(widths.sum())
        if scope == "layer":
            share = np.arange(total + 1)[:, None] / max(total, 1)
            return widths - np.round(share * widths).astype(np.int64)
        owner = np.repeat(np.arange(len(widths)), widths)
        order = np.argsort(np.concatenate([np.sort(v) for v in self.values] or [np.zeros(0)]), kind="stable")
        gone = np.zeros((total + 1, len(widths)), dtype=np.int64)
        gone[np.arange(1, total + 1), owner[order]] = 1
        return widths - gone.cumsum(0)

    def by_sparsity(self, scope: Literal["layer", "global"], sparsity: float) -> Plan:
        """Removes a fraction of all prunable channels."""
        path = self.path(scope)
        return self._plan(self.aligned(path[round(sparsity * (len(path) - 1))]))

    def by_budget(self, scope: Literal["layer", "global"], shares: Mapping[str, int | float]) -> Plan:
        """Removes as little as keeps every figure at or below its budget; fractions are of the model before."""
        budget = amounts(self.cost, shares)
        best = self.aligned(np.zeros_like(self.cost.widths))
        if not self._within(best, budget):
            raise BudgetError(self._unreachable(best, budget))
        path = self.path(scope)
        low, high = 0, len(path) - 1
        while low < high:
            middle = (low + high) // 2
            if self._within(self.aligned(path[middle]), budget):
                high = middle
            else:
                low = middle + 1
        return self._plan(self._refilled(self.aligned(path[high]), path[high], budget))

    def _within(self, kept: Counts, budget: dict[str, int]) -> bool:
        return all(self.cost.figure(name, kept) <= amount for name, amount in budget.items())

    def _refilled(self, kept: Counts, wanted: Counts, budget: dict[str, int]) -> Counts:
        """Gives back single steps that still fit, first to the groups that alignment cut most below their share."""
        shortfall = (wanted - kept) / self.cost.widths
        for number in np.argsort(-shortfall, kind="stable"):
            trial = kept.copy()
            trial[number] = min(kept[number] + self.steps[number], self.cost.widths[number])
            if trial[number] > kept[number] and self._within(trial, budget):
                kept = trial
        return kept

    def _unreachable(self, best: Counts, budget: dict[str, int]) -> str:
        parts = []
        for name, amount in budget.items():
            dense, least = (self.cost.figure(name, kept) for kept in (self.cost.widths, best))
            if least > amount:
                parts.append(f"{name}: {amount:,} asked, {least:,} is the least ({least / dense:.1%} of {dense:,})")
        return (
            "The budget cannot be met by removing channels: " + "; ".join(parts) + ". "
            "Ask for more, or loosen `keep`, `min_channels`, `min_fraction` or `align`."
        )

    def _plan(self, kept: Counts) -> Plan:
        removed = [np.sort(order[: len(order) - count]) for order, count in zip(self.orders, kept)]
        return Plan(self.graph, kept, tuple(removed))


def step(group: Group, align: Literal["auto", "off"] | int) -> int:
    """In what steps the channels of a group may go, so that all its layers stay on the multiple."""
    if align == "off":
        return 1
    if isinstance(align, int):
        return _step_for(group.weights, align)
    for multiple in MULTIPLES:
        found = _step_for(group.weights, multiple)
        if group.width >= STEPS_AT_LEAST * found:
            return found
    return 1


def _step_for(weights: Sequence[Place], multiple: int) -> int:
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


def amounts(cost: Cost, budget: Mapping[str, int | float]) -> dict[str, int]:
    """Budgets as absolute figures; a fraction is one of the model before removal."""
    dense = {name: cost.figure(name, cost.widths) for name in budget}
    return {
        name: value if isinstance(value, int) else math.floor(value * dense[name]) for name, value in budget.items()
    }
