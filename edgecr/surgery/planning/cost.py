"""The cost of a model whose groups keep fewer channels: the counters' arithmetic on shapes alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from torch import nn

from edgecr.surgery.tracing.graph import ChannelGraph

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Cost:
    """Parameters and multiply-accumulates as functions of the channels that each group keeps."""

    module: nn.Module
    graph: ChannelGraph

    @cached_property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Of all parameters, and of the buffers that layers take their weights from."""
        used = {use.tensor for use in self.graph.uses}
        fixed = ((name, tensor) for name, tensor in self.module.named_buffers() if name in used)
        return {name: tuple(tensor.shape) for name, tensor in [*self.module.named_parameters(), *fixed]}

    @cached_property
    def learned(self) -> npt.NDArray[np.bool_]:
        """The mask of the tensors in every figure that are parameters; the others are fixed filters in buffers."""
        learned = {name for name, _ in self.module.named_parameters()}
        return np.array([name in learned for name in self._shapes], dtype=np.bool_)

    @cached_property
    def _axes(self) -> tuple[list[tuple[str, int]], npt.NDArray[np.int64]]:
        """The axes that can shrink, and how many positions a channel of each group takes on them."""
        index: dict[tuple[str, int], int] = {}
        entries: list[tuple[int, int, int]] = []
        for number, group in enumerate(self.graph.groups):
            for place in group.tensors:
                if place.member.tensor in self._shapes:
                    row = index.setdefault((place.member.tensor, place.member.dim), len(index))
                    entries.append((row, number, place.multiplicity))
        matrix = np.zeros((len(index), len(self.graph.groups)), dtype=np.int64)
        for row, number, multiplicity in entries:
            matrix[row, number] = multiplicity
        return list(index), matrix

    @cached_property
    def widths(self) -> Counts:
        """Channels of each group before any removal."""
        return np.array([group.width for group in self.graph.groups], dtype=np.int64)

    @cached_property
    def _layout(self) -> tuple[list[str], Counts, Counts, Counts]:
        """Names, sizes of all axes (ones to fill up), and where the axes that shrink stand in them."""
        names = list(self._shapes)
        place = {name: row for row, name in enumerate(names)}
        sizes = np.ones((len(names), max((len(s) for s in self._shapes.values()), default=1)), dtype=np.int64)
        for row, shape in enumerate(self._shapes.values()):
            sizes[row, : len(shape)] = shape
        axes, _ = self._axes
        rows = np.array([place[name] for name, _ in axes], dtype=np.int64)
        return names, sizes, rows, np.array([dim for _, dim in axes], dtype=np.int64)

    def axes(self, kept: Counts) -> Counts:
        """Sizes of all axes of each parameter, a row each, ones to fill up."""
        _, dense, rows, dims = self._layout
        sizes: Counts = dense.copy()
        sizes[rows, dims] -= self._axes[1] @ (self.widths - kept)
        return sizes

    @cached_property
    def parameters(self) -> list[str]:
        """The names of all parameters and fixed filters, in the order of every figure."""
        return self._layout[0]

    @cached_property
    def _touched(self) -> list[tuple[Counts, Counts]]:
        """For each group the axes that follow its width, and the parameters that these belong to."""
        _, _, rows, _ = self._layout
        axes = [np.flatnonzero(column) for column in self._axes[1].T]
        return [(own, np.unique(rows[own])) for own in axes]

    def touched(self, number: int) -> Counts:
        """The parameters that the width of a group changes, by their place in ``parameters``."""
        return self._touched[number][1]

    def axes_along(self, kept: Counts, number: int, widths: Counts, parameters: Counts) -> Counts:
        """Sizes of all axes of some parameters (rising) for several widths of one group, all others held.

        By width, parameter and axis; ones fill up.
        """
        _, _, rows, dims = self._layout
        axes = self._touched[number][0]
        axes = axes[np.isin(rows[axes], parameters)]
        sizes = np.repeat(self.axes(kept)[None, parameters], len(widths), axis=0)
        more = np.multiply.outer(widths - kept[number], self._axes[1][axes, number])
        sizes[:, np.searchsorted(parameters, rows[axes]), dims[axes]] += more
        return sizes

    def shapes(self, kept: Counts) -> dict[str, tuple[int, ...]]:
        """The shape of each parameter when the groups keep this many channels."""
        rows = self.axes(kept).tolist()
        return {name: tuple(row[: len(self._shapes[name])]) for name, row in zip(self._layout[0], rows)}

    def sizes(self, kept: Counts) -> Counts:
        """Elements of each parameter when the groups keep this many channels."""
        result: Counts = self.axes(kept).prod(1)
        return result

    def params(self, kept: Counts) -> int:
        """Elements of all parameters."""
        return int(self.sizes(kept)[self.learned].sum())

    @cached_property
    def positions(self) -> Counts:
        """At how many positions of the output each parameter is applied."""
        total = dict.fromkeys(self._shapes, 0)
        for use in self.graph.uses:
            if use.tensor:
                total[use.tensor] += use.positions
        return np.array(list(total.values()), dtype=np.int64)

    def work(self, kept: Counts) -> Counts:
        """Multiply-accumulates with each parameter for one image."""
        result: Counts = self.sizes(kept) * self.positions
        return result

    def macs(self, kept: Counts) -> int:
        """Multiply-accumulates of convolutions and linear layers for one image."""
        computed = sum(use.positions for use in self.graph.uses if not use.tensor)
        return int(self.work(kept).sum()) + computed
