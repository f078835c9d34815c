"""Latency as a figure that a budget can limit: what a table says of each layer, at any channel counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from typing_extensions import override

from edgecr.latency import LatencyTable, LayerConfig
from edgecr.surgery.planning.amounts import LATENCY
from edgecr.surgery.planning.cost import Counts
from edgecr.surgery.planning.figures import BudgetFigure, Parts, owners_of
from edgecr.surgery.planning.layers import LayerSizes, with_shape

NS_PER_MS = 1e6
"""In one millisecond; figures are whole numbers."""
_UNKNOWN = -1


def latency_figure(sizes: LayerSizes, table: LatencyTable) -> BudgetFigure:
    """The calibrated time of each layer in nanoseconds; what was not measured is interpolated."""
    return BudgetFigure(LATENCY, LayerParts(sizes, table), owners_of(sizes.graph, [one.tensor for one in sizes.layers]))


@dataclass
class LayerTimes:
    """The time of one layer by its outputs and by the inputs of its weight, in nanoseconds.

    Layers that differ in nothing share one; each time is looked up once.
    """

    layer: LayerConfig
    table: LatencyTable
    _rows: dict[int, Counts] = field(default_factory=dict)

    def one(self, outputs: int, inputs: int) -> int:
        """The time of the layer with a weight of this shape."""
        return int(self._of(np.array([outputs]), inputs)[0])

    def many(self, outputs: Counts, inputs: Counts) -> Counts:
        """The times for pairs of both."""
        if (inputs == inputs[0]).all():
            return self._of(outputs, int(inputs[0]))
        found = np.empty(len(outputs), dtype=np.int64)
        for count in np.unique(inputs):
            at = np.flatnonzero(inputs == count)
            found[at] = self._of(outputs[at], int(count))
        return found

    def _of(self, outputs: Counts, inputs: int) -> Counts:
        row = self._row(inputs)
        if (row[outputs] == _UNKNOWN).any():
            unknown = np.unique(outputs[row[outputs] == _UNKNOWN])
            row[unknown] = self._times(unknown, inputs)
        result: Counts = row[outputs]
        return result

    def _row(self, inputs: int) -> Counts:
        row = self._rows.get(inputs)
        if row is None:
            row = self._rows[inputs] = np.full(self.layer.cout + 1, _UNKNOWN, dtype=np.int64)
        return row

    def _times(self, outputs: Counts, inputs: int) -> Counts:
        widest = with_shape(self.layer, (self.layer.cout, inputs))
        milliseconds = self.table.over_outputs(widest, outputs)
        configs = [with_shape(self.layer, (int(count), inputs)) for count in outputs]
        for place in np.flatnonzero(np.isnan(milliseconds)):
            milliseconds[place] = self.table.latency(configs[place], estimate=True).ms
        weights = np.array([config.weights for config in configs]) / 1e6
        values = np.array([config.values for config in configs]) / 1e6
        calibrated = self.table.calibration.weigh(milliseconds, np.ones(len(configs)), weights, values)
        whole = np.rint(calibrated * NS_PER_MS).astype(np.int64)
        nanoseconds: Counts = np.maximum(0, whole)  # the fit may go below nothing
        return nanoseconds


@dataclass(frozen=True)
class LayerParts(Parts):
    """The contribution of each layer of a model to its latency."""

    sizes: LayerSizes
    table: LatencyTable

    @cached_property
    def _times(self) -> list[LayerTimes]:
        every: dict[LayerConfig, LayerTimes] = {}
        return [every.setdefault(layer.config, LayerTimes(layer.config, self.table)) for layer in self.sizes.layers]

    @cached_property
    def _parameters(self) -> Counts:
        """The weight of each layer by its place among all parameters; -1 where it is computed from others."""
        place = {name: number for number, name in enumerate(self.sizes.cost.parameters)}
        return np.array([place.get(layer.tensor, -1) for layer in self.sizes.layers], dtype=np.int64)

    @cached_property
    def _touched(self) -> list[Counts]:
        groups = range(len(self.sizes.graph.groups))
        return [np.flatnonzero(np.isin(self._parameters, self.sizes.cost.touched(number))) for number in groups]

    @override
    def __call__(self, kept: Counts) -> Counts:
        shapes = self.sizes.cost.axes(kept)[self._parameters, :2].tolist()
        return np.array(
            [
                self._whole(times) if parameter < 0 else times.one(*shape)
                for times, parameter, shape in zip(self._times, self._parameters, shapes)
            ],
            dtype=np.int64,
        )

    @staticmethod
    def _whole(times: LayerTimes) -> int:
        return times.one(times.layer.cout, times.layer.cin // times.layer.groups)

    @override
    def touched(self, number: int) -> Counts:
        return self._touched[number]

    @override
    def along(self, kept: Counts, number: int, widths: Counts, parts: Counts) -> Counts:
        parameters = np.unique(self._parameters[parts])
        sizes = self.sizes.cost.axes_along(kept, number, widths, parameters)[:, :, :2]
        found = np.empty((len(widths), len(parts)), dtype=np.int64)
        for place, part in enumerate(parts):
            shape = sizes[:, np.searchsorted(parameters, self._parameters[part])]
            found[:, place] = self._times[part].many(shape[:, 0], shape[:, 1])
        return found
