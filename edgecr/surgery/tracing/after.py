"""The channels of a module that was cut: worked out from the record, so that every group stays the one it was."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from torch import nn

from edgecr.core.errors import WorkError
from edgecr.surgery.changes.cut import ChannelCut, as_positions
from edgecr.surgery.tracing.graph import ChannelGraph, Group, M, Place
from edgecr.surgery.tracing.slots import Ids
from edgecr.surgery.tracing.trace import SettingMember, TensorMember

Gone = Mapping[tuple[str, int | str], Ids]
"""The positions that leave each tensor axis, or each setting, in order."""


def after(graph: ChannelGraph, cuts: Iterable[ChannelCut], module: nn.Module) -> ChannelGraph:
    """The same groups in a module from which channels went; a group of which one channel is left is still there.

    A second trace could take the smaller module for another one (two groups of one channel look depthwise) and
    name its groups anew. Raises where record, groups and module do not agree.
    """
    for cut in cuts:
        graph = _after(graph, cut)
    _check(graph, module)
    return graph


def _after(graph: ChannelGraph, cut: ChannelCut) -> ChannelGraph:
    gone: dict[tuple[str, int | str], Ids] = {
        (one.tensor, one.dim): np.array(as_positions(one.removed), dtype=np.int64) for one in cut.tensors
    }
    told = {one.group: one.removed for one in cut.groups}
    removed = [_removed(group, gone) for group in graph.groups]
    for group, leave in zip(graph.groups, removed):
        if int(leave.sum()) != told.pop(group.name, 0) or leave.all():
            raise WorkError(f"The record of a cut does not say which channels of {group.name} went. {_CURE}")
    if told:
        raise WorkError(f"The record of a cut names {next(iter(told))}, which is no group of this model. {_CURE}")
    _add_settings(graph.groups, removed, gone)
    pairs = zip(graph.groups, removed)
    return replace(graph, groups=tuple(_smaller(group, ~leave, gone) for group, leave in pairs))


_CURE = "Begin the step anew, with the model that it began with."


def _removed(group: Group, gone: Gone) -> npt.NDArray[np.bool_]:
    """Returns the mask of the channels that left a group; raises if one left some of its places only."""
    votes = [np.isin(place.positions, gone.get(_key(place), ())) for place in group.tensors]
    whole = [vote.all(1) for vote in votes]
    if any((vote.any(1) != whole[0]).any() or (all_ != whole[0]).any() for vote, all_ in zip(votes, whole)):
        raise WorkError(f"The record of a cut removes channels of {group.name} from some places only. {_CURE}")
    return np.asarray(whole[0], dtype=np.bool_)


def _key(place: Place[M]) -> tuple[str, int | str]:
    member = place.member
    return (member.tensor, member.dim) if isinstance(member, TensorMember) else (member.layer, member.counts[0][0])


def _add_settings(
    groups: Iterable[Group], removed: Iterable[npt.NDArray[np.bool_]], gone: dict[tuple[str, int | str], Ids]
) -> None:
    """Settings lose positions with the channels that they count."""
    for group, leave in zip(groups, removed):
        for place in group.settings:
            key = _key(place)
            gone[key] = np.sort(np.append(gone.get(key, place.positions[:0]), place.positions[leave]))


def _smaller(group: Group, stay: npt.NDArray[np.bool_], gone: Gone) -> Group:
    """A group without the channels that left."""
    return replace(
        group,
        tensors=tuple(Place(_without(place.member, gone), _moved(place, stay, gone)) for place in group.tensors),
        settings=tuple(
            Place(_without_counts(place.member, gone), _moved(place, stay, gone)) for place in group.settings
        ),
    )


def _moved(place: Place[M], stay: npt.NDArray[np.bool_], gone: Gone) -> Ids:
    """Positions move up by as many as left in front of them."""
    positions = place.positions[stay]
    moved: Ids = positions - np.searchsorted(gone.get(_key(place), np.array([], dtype=np.int64)), positions)
    return moved


def _without(member: TensorMember, gone: Gone) -> TensorMember:
    return replace(member, ids=np.delete(member.ids, gone.get((member.tensor, member.dim), ())))


def _without_counts(member: SettingMember, gone: Gone) -> SettingMember:
    """Each attribute counts what is left of its stretch."""
    left = np.delete(np.arange(len(member.ids)), gone.get((member.layer, member.counts[0][0]), ()))
    edges = np.cumsum([0, *(count for _, count in member.counts)])
    counts = np.diff(np.searchsorted(left, edges)).tolist()
    names = (name for name, _ in member.counts)
    return replace(member, counts=tuple(zip(names, counts)), ids=member.ids[left])


def _check(graph: ChannelGraph, module: nn.Module) -> None:
    """Refuses a module whose tensors do not have the sizes that the groups say."""
    tensors = dict([*module.named_parameters(), *module.named_buffers()])
    for member in (place.member for group in graph.groups for place in group.tensors):
        found = tensors[member.tensor].shape[member.dim] if member.tensor in tensors else 0
        if found != len(member.ids):
            raise WorkError(
                f"{member.tensor} has {found} positions along axis {member.dim}, but its groups have "
                f"{len(member.ids)}: the model is not what its record of cuts says. {_CURE}"
            )
