"""The channel counts that a group may keep: within the user's limits, and without waste on the device."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from edgecr.core.errors import UnsupportedModel
from edgecr.surgery.changes.cut import ChannelCut
from edgecr.surgery.layer_names import matched
from edgecr.surgery.planning.cost import Counts
from edgecr.surgery.tracing.graph import ChannelGraph, Group, Place
from edgecr.surgery.tracing.slots import Ids, Values
from edgecr.surgery.tracing.trace import TensorMember

STEPS_AT_LEAST = 3
"""Automatic alignment takes the largest multiple that still leaves a group this many widths."""
MULTIPLES = (16, 8, 4, 2)
"""Multiples that automatic alignment tries; 16 fills the vector registers of current processors."""


@dataclass(frozen=True)
class Limits:
    """The limits that a plan must respect in every group."""

    align: Literal["auto", "off"] | int = "auto"
    min_channels: int = 1
    min_fraction: float = 0.0
    exclude: tuple[str, ...] = ()
    max_fraction: float = 1.0
    multiples: tuple[int, ...] = MULTIPLES
    """Multiples that automatic alignment tries, the largest first."""


@dataclass(frozen=True)
class Allowed:
    """The groups that a pruning began with, by name: the one reference of everything that it does in several steps."""

    counts: Mapping[str, Ids]
    """The channel counts that each group may keep."""
    widths: Mapping[str, int]
    """Channels of each group at the beginning."""
    left: Mapping[str, int]
    """Channels of each group now."""

    @property
    def removable(self) -> tuple[str, ...]:
        """The groups that may lose channels at all: only theirs count for a sparsity, before and after."""
        return tuple(name for name, width in self.widths.items() if self.counts[name][0] < width)

    def after(self, cuts: Iterable[ChannelCut]) -> Allowed:
        """The same reference for a model from which these channels went since the pruning began."""
        return replace(self, left=left_after(self.left, cuts))

    def elsewhere(self, graph: ChannelGraph) -> int:
        """Removable channels outside a graph: a group is no longer found once a single channel of it is left."""
        found = {group.name for group in graph.groups}
        return sum(self.left[name] for name in self.removable if name not in found)

    def check(self, graph: ChannelGraph) -> None:
        """Raises unless these are the groups of the beginning with the channels that are left."""
        found = {group.name: group.width for group in graph.groups}
        usual = {name: count for name, count in self.left.items() if count > 1 or name in found}
        if found != usual:
            names = [name for name in {**usual, **found} if found.get(name) != usual.get(name)]
            pairs = ((name, _channels(found.get(name)), _channels(usual.get(name))) for name in names)
            told = "; ".join(f"{name}: {now}, not {then}" for name, now, then in pairs)
            raise UnsupportedModel(
                "The model's groups of channels are no longer those that this pruning began with, so nothing is cut "
                f"({told}). Prune with a oneshot schedule, or `exclude` these layers."
            )


def _channels(count: int | None) -> str:
    return "no group" if count is None else f"{count} channels"


def left_after(left: Mapping[str, int], cuts: Iterable[ChannelCut]) -> dict[str, int]:
    """The channels of each group after some cuts; a cut of a group that has other channels than it says is refused."""
    result = dict(left)
    for one in (group for cut in cuts for group in cut.groups):
        known = result.get(one.group)
        if known != one.width or not 0 < one.removed < one.width:
            raise UnsupportedModel(
                f"A cut says that {one.group} loses {one.removed} of {one.width} channels, but it has "
                f"{_channels(known)}: the record of this pruning would be wrong."
            )
        result[one.group] = one.width - one.removed
    return result


@dataclass(frozen=True)
class Widths:
    """The channel counts that each group may keep, rising."""

    allowed: tuple[Ids, ...]

    @classmethod
    def up_to(cls, current: Counts, graph: ChannelGraph, allowed: Allowed) -> Widths:
        """Returns the counts that groups with this many channels left can still keep."""
        pairs = zip(graph.groups, current)
        return cls(tuple(_up_to(allowed.counts[group.name], count) for group, count in pairs))

    @cached_property
    def least(self) -> Counts:
        """The fewest channels that each group may keep."""
        return np.array([allowed[0] for allowed in self.allowed], dtype=np.int64)

    @cached_property
    def _nearest(self) -> list[Ids]:
        return [_nearest_allowed(allowed) for allowed in self.allowed]

    def aligned(self, kept: Counts | Values) -> Counts:
        """The nearest counts that may be kept; of two, the larger."""
        pairs = zip(self._nearest, np.floor(kept + 0.5).astype(np.int64))
        return np.array([nearest[min(count, len(nearest) - 1)] for nearest, count in pairs], dtype=np.int64)

    def in_blocks(self, graph: ChannelGraph, limits: Limits) -> Widths:
        """Without what leaves a block of the device half empty, if alignment is automatic."""
        if limits.align != "auto" or not limits.multiples:
            return self
        steps = [_step_for(group.weights, limits.multiples[0]) for group in graph.groups]
        return Widths(tuple(own[(own % step == 0) | (own == own[-1])] for own, step in zip(self.allowed, steps)))


def allowed_by(graph: ChannelGraph, limits: Limits) -> Allowed:
    """Returns the channel counts that limits allow in a model from which nothing has been removed yet."""
    dense = matched_layers(graph, limits.exclude)
    counts = {
        group.name: np.array([group.width]) if dense.intersection(group.layers) else allowed_widths(group, limits)
        for group in graph.groups
    }
    widths = {group.name: group.width for group in graph.groups}
    return Allowed(counts, widths, widths)


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
    """The layers of the groups that name patterns mean; ``layer4`` also means everything inside it."""
    return matched(graph.layers, patterns)
