"""The channels of a model that can be removed, in groups that must be removed together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Generic, TypeVar

import numpy as np
from torch import Tensor, nn

from edgecr.core.errors import UnsupportedModel
from edgecr.surgery.tracing import operators, pointwise, shapes
from edgecr.surgery.tracing.dispatch import follow
from edgecr.surgery.tracing.running import example_for, shadows, with_auxiliaries
from edgecr.surgery.tracing.slots import Ids
from edgecr.surgery.tracing.trace import Member, SettingMember, TensorMember, Trace, Unknown, Use

HANDLED_IN = (operators, shapes, pointwise)
"""The modules that declare how channels flow through operators."""


M = TypeVar("M", bound=Member)


@dataclass(frozen=True)
class Place(Generic[M]):
    """The positions of a group's channels in one tensor axis or setting."""

    member: M
    positions: Ids
    """Shape (channels of the group, positions that each of them takes)."""

    @property
    def multiplicity(self) -> int:
        """Number of positions that one channel takes."""
        return int(self.positions.shape[1])


@dataclass(frozen=True)
class Group:
    """Channels that can be removed one by one, each from all its places at once."""

    name: str
    tensors: tuple[Place[TensorMember], ...]
    settings: tuple[Place[SettingMember], ...]
    reasons: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Number of channels in the group."""
        return len(self.tensors[0].positions)

    @property
    def weights(self) -> tuple[Place[TensorMember], ...]:
        """The convolution and linear weights that make these channels."""
        return tuple(place for place in self.tensors if place.member.makes_channels)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that make these channels."""
        return tuple(dict.fromkeys(place.member.layer for place in self.weights))

    @property
    def reads(self) -> tuple[Place[TensorMember], ...]:
        """The weights that read these channels."""
        return tuple(place for place in self.tensors if place.member.role == "in")

    @property
    def readers(self) -> tuple[str, ...]:
        """The layers that read these channels."""
        return tuple(dict.fromkeys(place.member.layer for place in self.reads))


@dataclass(frozen=True)
class Frozen:
    """A layer whose channels all stay, and why."""

    layer: str
    channels: int
    reason: str


@dataclass(frozen=True)
class ChannelGraph:
    """The groups of a model, and what a plan must know beside them."""

    input_shape: tuple[int, ...]
    groups: tuple[Group, ...]
    uses: tuple[Use, ...]
    unknown: tuple[Unknown, ...]
    layers: tuple[str, ...]
    """All layers with weights that ran."""
    auxiliary: bool
    """True if some parameters only take part in training (auxiliary heads)."""
    trace: Trace
    withheld: tuple[Frozen, ...] = ()
    """Layers that looked removable, until the module failed without some of their channels."""

    @cached_property
    def frozen(self) -> tuple[Frozen, ...]:
        """Layers with channels that belong to no group, with the first reason found."""
        return tuple(_frozen(self))

    def stopped_by(self) -> dict[str, tuple[str, ...]]:
        """Operators without a handler, and the layers where they stopped channels."""
        found: dict[str, tuple[str, ...]] = {}
        for unknown in self.unknown:
            found[unknown.operator] = (*found.get(unknown.operator, ()), unknown.layer or "the model")
        return found


def trace_channels(module: nn.Module, input_shape: tuple[int, ...]) -> ChannelGraph:
    """Runs the module once and finds its groups of channels.

    Values do not matter, so it runs on stand-ins without any; a module that looks at values runs on real ones.
    """
    example = example_for(module, input_shape)
    try:
        return _traced(Trace(module, shadows(module)), example.to("meta"), input_shape)
    except UnsupportedModel:
        own = dict([*module.named_parameters(), *module.named_buffers()])
        return _traced(Trace(module, own), example, input_shape)


def _traced(trace: Trace, example: Tensor, input_shape: tuple[int, ...]) -> ChannelGraph:
    """Follows the channels, through heads that only run in training too."""
    follow(trace, example)
    uses, unseen = tuple(trace.uses), trace.unseen()
    if unseen:
        follow(trace, example, with_auxiliaries)
    trace.finish()
    return ChannelGraph(
        input_shape=input_shape,
        groups=tuple(_groups(trace)),
        uses=uses,
        unknown=tuple(dict.fromkeys(trace.unknown)),
        layers=tuple(dict.fromkeys(m.layer for m in trace.tensor_members() if m.makes_channels)),
        auxiliary=bool(unseen),
        trace=trace,
    )


def _groups(trace: Trace) -> Iterable[Group]:
    """Channels with the same places, in equal numbers, are one group."""
    members = list(trace.members.values())
    roots = trace.ledger.roots()
    keep = ~trace.ledger.frozen(roots)
    root = np.concatenate([roots[member.ids] for member in members] or [roots])
    owner = np.repeat(np.arange(len(members)), [len(member.ids) for member in members])
    position = np.concatenate([np.arange(len(member.ids)) for member in members] or [roots])
    weights = np.array([isinstance(m, TensorMember) and m.makes_channels for m in members], dtype=np.bool_)
    made = np.zeros(trace.ledger.size, dtype=np.bool_)
    made[root[weights[owner]]] = True
    kept = (keep & made)[root]
    root, owner, position = root[kept], owner[kept], position[kept]
    if not len(root):
        return []
    group = _by_signature(root, owner, trace.ledger.size)[root]
    order = np.lexsort((position, root, owner, group))
    return _named(_assembled(members, group[order], owner[order], root[order], position[order]))


def _by_signature(root: Ids, owner: Ids, size: int) -> Ids:
    """A group number for each root; roots with equal multisets of owners share one.

    Groups count in the order of their owners, not of their positions: cuts move positions and leave owners.
    """
    order = np.lexsort((owner, root))
    owners, (found, starts) = owner[order], np.unique(root[order], return_index=True)
    raw = owners.tobytes()
    edges = (np.append(starts, len(owners)) * owners.itemsize).tolist()
    signatures = [raw[a:b] for a, b in pairwise(edges)]
    ordered = sorted(set(signatures), key=lambda one: np.frombuffer(one, dtype=owners.dtype).tolist())
    numbers = {signature: number for number, signature in enumerate(ordered)}
    result = np.full(size, -1, dtype=np.int64)
    result[found] = [numbers[signature] for signature in signatures]
    return result


def _assembled(members: list[Member], group: Ids, owner: Ids, root: Ids, position: Ids) -> list[list[Place[Any]]]:
    """Cuts the sorted entries into groups, and these into places."""
    edges = np.flatnonzero((np.diff(group) != 0) | (np.diff(owner) != 0)) + 1
    starts, stops = np.concatenate([[0], edges]), np.concatenate([edges, [len(group)]])
    groups: list[list[Place[Any]]] = [[] for _ in range(int(group[-1]) + 1)]
    for start, stop in zip(starts, stops):
        width = 1 + int((np.diff(root[start:stop]) != 0).sum())
        place = Place(members[owner[start]], position[start:stop].reshape(width, -1))
        groups[group[start]].append(place)
    return groups


def _named(groups: list[list[Place[Any]]]) -> list[Group]:
    """Names each group after the first layer that makes its channels; a lone channel must stay, and keeps its name."""
    result, taken = [], dict[str, int]()
    for places in groups:
        tensors = tuple(place for place in places if isinstance(place.member, TensorMember))
        settings = tuple(place for place in places if isinstance(place.member, SettingMember))
        group = Group("", tensors, settings)
        name = group.layers[0]
        taken[name] = taken.get(name, 0) + 1
        suffix = f"#{taken[name]}" if taken[name] > 1 else ""
        if group.width > 1:
            result.append(replace(group, name=name + suffix))
    return result


def _frozen(graph: ChannelGraph) -> Iterable[Frozen]:
    yield from graph.withheld
    ledger = graph.trace.ledger
    roots = ledger.roots()
    reasons: dict[int, str] = {}
    for freeze in ledger.freezes:
        for root in np.unique(roots[freeze.ids]):
            reasons.setdefault(int(root), freeze.why)
    for member in graph.trace.tensor_members():
        if member.makes_channels:
            stuck = [int(root) for root in roots[member.ids] if int(root) in reasons]
            if stuck:
                yield Frozen(member.layer, len(stuck), reasons[stuck[0]])


def explained(graph: ChannelGraph) -> tuple[Group, ...]:
    """The same groups with the reasons why their channels are tied."""
    roots = graph.trace.ledger.roots()
    owner = np.full(len(roots), -1)
    for number, group in enumerate(graph.groups):
        for place in group.weights:
            owner[roots[place.member.ids[place.positions]]] = number
    reasons: list[dict[str, None]] = [{} for _ in graph.groups]
    for tie in graph.trace.ledger.ties:
        for number in np.unique(owner[roots[tie.left]]):
            if number >= 0:
                reasons[number][tie.why] = None
    return tuple(replace(group, reasons=tuple(why)) for group, why in zip(graph.groups, reasons))
