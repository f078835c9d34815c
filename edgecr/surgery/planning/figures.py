"""The figures that a budget can limit: sums over parts, each of which the width of one group decides most."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from edgecr.surgery.planning.amounts import CHANNELS, SIZE
from edgecr.surgery.planning.cost import Cost, Counts
from edgecr.surgery.tracing.graph import ChannelGraph

BYTES = 4
"""Size of one fp32 number in a file."""


class Parts(ABC):
    """The contribution of each part of a model (a parameter, a layer or a group) to a figure."""

    @abstractmethod
    def __call__(self, kept: Counts) -> Counts:
        """All parts when the groups keep this many channels."""

    @abstractmethod
    def touched(self, number: int) -> Counts:
        """The parts that the width of a group changes, by their place, rising."""

    @abstractmethod
    def along(self, kept: Counts, number: int, widths: Counts, parts: Counts) -> Counts:
        """Some of the touched parts for several widths of one group, all others held: a row for each width."""


@dataclass(frozen=True)
class ParameterParts(Parts):
    """The contribution of each parameter: a fixed amount for each of its elements."""

    cost: Cost
    weights: Counts

    @override
    def __call__(self, kept: Counts) -> Counts:
        result: Counts = self.cost.sizes(kept) * self.weights
        return result

    @override
    def touched(self, number: int) -> Counts:
        return self.cost.touched(number)

    @override
    def along(self, kept: Counts, number: int, widths: Counts, parts: Counts) -> Counts:
        result: Counts = self.cost.axes_along(kept, number, widths, parts).prod(2) * self.weights[parts]
        return result


@dataclass(frozen=True)
class ChannelParts(Parts):
    """The channels of each group that could lose some when the pruning began, and of those not seen here."""

    removable: npt.NDArray[np.bool_]
    elsewhere: int = 0

    @override
    def __call__(self, kept: Counts) -> Counts:
        return np.append(np.where(self.removable, kept, 0), self.elsewhere)

    @override
    def touched(self, number: int) -> Counts:
        return np.array([number])

    @override
    def along(self, kept: Counts, number: int, widths: Counts, parts: Counts) -> Counts:
        result: Counts = np.outer(widths * self.removable[number], parts == number).astype(np.int64)
        return result


@dataclass(frozen=True)
class BudgetFigure:
    """One figure of a model as a function of the channels that each group keeps, in whole units."""

    name: str
    parts: Parts
    owners: Counts
    """The group that makes the channels of each part; -1: none."""

    def __call__(self, kept: Counts) -> int:
        """The whole figure."""
        return int(self.parts(kept).sum())

    def change(self, kept: Counts, number: int, width: int) -> int:
        """Returns the increase of the figure when one group takes another width."""
        widths = np.array([kept[number], width])
        before, after = self.parts.along(kept, number, widths, self.parts.touched(number)).sum(1)
        return int(after - before)

    def charges(self, kept: Counts, number: int, widths: Counts) -> Counts:
        """Returns the cost of the parts that a group owns at several of its widths, all other widths held fixed."""
        touched = self.parts.touched(number)
        own = touched[self.owners[touched] == number]
        result: Counts = self.parts.along(kept, number, widths, own).sum(1)
        return result


def counted_figures(cost: Cost) -> Mapping[str, BudgetFigure]:
    """Everything that shapes alone decide; fixed filters are no parameters, but a file carries them like these."""
    owners, each = owners_of(cost.graph, cost.parameters), np.ones(len(cost.parameters), dtype=np.int64)
    weights = {"params": cost.learned.astype(np.int64), "macs": cost.positions, SIZE: BYTES * each}
    return {name: BudgetFigure(name, ParameterParts(cost, weight), owners) for name, weight in weights.items()}


def channel_figure(removable: npt.NDArray[np.bool_], elsewhere: int = 0) -> BudgetFigure:
    """The channels of the groups that could lose some when the pruning began; ``elsewhere``: of those not seen here."""
    owners = np.append(np.arange(len(removable)), -1)
    return BudgetFigure(CHANNELS, ChannelParts(removable, elsewhere), owners)


def owners_of(graph: ChannelGraph, tensors: list[str]) -> Counts:
    """For each parameter the group whose channels it makes or normalises; -1 where that is none."""
    makers: dict[str, int] = {}
    for number, group in enumerate(graph.groups):
        for place in group.tensors:
            if place.member.role == "out":
                makers.setdefault(place.member.tensor, number)
    return np.array([makers.get(name, -1) for name in tensors], dtype=np.int64)
