"""The figures that a budget can limit: sums over parts, each of which the width of one group decides most."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgecr.surgery.amounts import CHANNELS as CHANNELS  # with the figures, the names that they go by
from edgecr.surgery.amounts import LATENCY as LATENCY
from edgecr.surgery.amounts import SIZE as SIZE
from edgecr.surgery.amounts import WHOLE_LATENCY as WHOLE_LATENCY
from edgecr.surgery.amounts import in_words as in_words
from edgecr.surgery.cost import Cost, Counts
from edgecr.surgery.graph import ChannelGraph

BYTES = 4
"""Size of one fp32 number in a file."""


@dataclass(frozen=True)
class Figure:
    """One figure of a model as a function of the channels that each group keeps, in whole units."""

    name: str
    parts: Callable[[Counts], Counts]
    """What each part adds: a parameter, a layer or a group."""
    owners: Counts
    """The group that makes the channels of each part; -1: none."""

    def __call__(self, kept: Counts) -> int:
        """The whole figure."""
        return int(self.parts(kept).sum())


def counted_figures(cost: Cost) -> Mapping[str, Figure]:
    """Everything that shapes alone decide: parameters, multiply-accumulates, bytes and channels."""
    names = list(cost.shapes(cost.widths))
    owners = owners_of(cost.graph, names)
    return {
        "params": Figure("params", cost.sizes, owners),
        "macs": Figure("macs", cost.work, owners),
        SIZE: Figure(SIZE, lambda kept: BYTES * cost.sizes(kept), owners),
    }


def channel_figure(prunable: npt.NDArray[np.bool_]) -> Figure:
    """The channels of the groups that may lose some."""
    return Figure(CHANNELS, lambda kept: np.where(prunable, kept, 0), np.arange(len(prunable)))


def owners_of(graph: ChannelGraph, tensors: list[str]) -> Counts:
    """For each parameter the group whose channels it makes or normalises; -1 where that is none."""
    makers: dict[str, int] = {}
    for number, group in enumerate(graph.groups):
        for place in group.tensors:
            if place.member.role == "out":
                makers.setdefault(place.member.tensor, number)
    return np.array([makers.get(name, -1) for name in tensors], dtype=np.int64)
