"""Times between measured channel counts, along one count or from a curve of each; never beyond what was measured."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from functools import cached_property

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]
"""Not a number where too little was measured to tell."""
Pair = tuple[int, int]


class Line:
    """A function of one count: straight between its measured points."""

    def __init__(self, points: Mapping[int, float]) -> None:
        self._points = points
        self._sorted = sorted(points)

    @cached_property
    def _arrays(self) -> tuple[Counts, Values]:
        values = [self._points[count] for count in self._sorted]
        return np.array(self._sorted, dtype=np.int64), np.array(values, dtype=np.float64)

    def one(self, count: int) -> float:
        """The value at one count."""
        if not self._sorted[0] <= count <= self._sorted[-1]:
            return math.nan
        place = bisect_left(self._sorted, count)
        high = self._sorted[place]
        if high == count:
            return self._points[high]
        low = self._sorted[place - 1]
        share = (count - low) / (high - low)
        return self._points[low] + share * (self._points[high] - self._points[low])

    def at(self, counts: Counts) -> Values:
        """The values at some counts."""
        if len(counts) == 1:
            return np.array([self.one(int(counts[0]))])
        own, values = self._arrays
        high = np.minimum(np.searchsorted(own, counts), len(own) - 1)
        low = np.where(own[high] == counts, high, np.maximum(high - 1, 0))
        share = (counts - own[low]) / np.maximum(own[high] - own[low], 1)
        found = values[low] + share * (values[high] - values[low])
        result: Values = np.where((counts >= own[0]) & (counts <= own[-1]), found, np.nan)
        return result


class Surface:
    """Measured times by (inputs, outputs), of layers that differ in nothing else."""

    def __init__(self, cells: Mapping[Pair, float]) -> None:
        self._cells = cells
        self._ratios: dict[float, Line] = {}

    @cached_property
    def _rows(self) -> dict[int, Line]:
        """Times as a function of the outputs, for each number of inputs."""
        return _lines((cin, cout, ms) for (cin, cout), ms in self._cells.items())

    @cached_property
    def _columns(self) -> dict[int, Line]:
        """Times as a function of the inputs, for each number of outputs."""
        return _lines((cout, cin, ms) for (cin, cout), ms in self._cells.items())

    @cached_property
    def _largest_first(self) -> list[Pair]:
        return sorted(self._cells, key=lambda cell: -cell[0] * cell[1])

    def at(self, cin: int, couts: Counts) -> Values:
        """Times with some numbers of outputs: from measured neighbours along one count, or as ``_product``."""
        row = self._rows.get(cin)
        found = np.full(len(couts), np.nan) if row is None else row.at(couts)
        for place in np.flatnonzero(np.isnan(found)):
            column = self._columns.get(int(couts[place]))
            if column is not None:
                found[place] = column.one(cin)
        unknown = np.flatnonzero(np.isnan(found))
        if len(unknown):
            found[unknown] = self._product(cin, couts[unknown])
        return found

    def _product(self, cin: int, couts: Counts) -> Values:
        """One curve of inputs and one of outputs that cross at a larger measured cell, as if they multiplied.

        The largest cell may belong to a layer that says nothing of these counts; then the next one is tried.
        """
        found = np.full(len(couts), np.nan)
        across = {cout: column.one(cin) for cout, column in self._columns.items() if cout >= couts.min()}
        for inputs, outputs in self._largest_first:
            if inputs < cin or np.isnan(across.get(outputs, np.nan)):
                continue
            open_ = np.isnan(found) & (couts <= outputs)
            found[open_] = across[outputs] * self._rows[inputs].at(couts[open_]) / self._cells[inputs, outputs]
            if not np.isnan(found).any():
                break
        return found

    def along(self, ratio: float, cins: Counts) -> Values:
        """Times of layers with so many outputs for each input: they shrink in both together."""
        line = self._ratios.get(ratio)
        if line is None:
            points = {cin: ms for (cin, cout), ms in self._cells.items() if cout / cin == ratio}
            line = self._ratios[ratio] = Line(points or {0: np.nan})
        return line.at(cins)


def _lines(points: Iterable[tuple[int, int, float]]) -> dict[int, Line]:
    """The lines through points of (which line, count, value)."""
    lines: dict[int, dict[int, float]] = {}
    for which, count, value in points:
        lines.setdefault(which, {})[count] = value
    return {which: Line(values) for which, values in lines.items()}
