"""Ranges of all activations of an ONNX model on real images, by several rules.

Images pass twice: for the extremes, then for histograms between them, so that memory does not grow with their number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx

from edgecr.core.errors import UnsupportedModel
from edgecr.exporters.onnx.names import place_of
from edgecr.predictors.onnx_predictor import open_session

Range = tuple[float, float]

_BINS = 2048
_VALUES = 1 << 14
"""Values of one activation of one image that enter its histogram, at most."""
_TAIL = 1e-4
"""Share of values that ``percentile`` leaves outside at each end, at most."""
_SHARES = np.linspace(1.0, 0.1, 46)
"""Shares of the whole range that are tried."""
_LEVELS = 256


@dataclass(frozen=True)
class Histogram:
    """The values of one activation: their extremes, and how many lie in each equal part between them.

    Zeros do not count: every range has one.
    """

    low: float
    high: float
    counts: np.ndarray

    @cached_property
    def centres(self) -> np.ndarray:
        """The middle of each part."""
        edges = np.linspace(self.low, self.high, len(self.counts) + 1)
        return np.asarray((edges[:-1] + edges[1:]) / 2)

    def shrunk(self, share: float) -> Range:
        """The range without values beyond a share of the largest one."""
        limit = share * max(-self.low, self.high)
        return max(self.low, -limit), min(self.high, limit)


class Activations:
    """The activations of one model on some inputs; every portion is what the model takes at once."""

    def __init__(self, model: onnx.ModelProto, portions: Iterable[np.ndarray]) -> None:
        self._portions = list(portions)
        self._names = _activations(model)
        self._session = open_session(_showing(model, self._names))
        self._input = self._session.get_inputs()[0].name
        self._model = model
        self.extremes = self._seen_extremes()
        """The smallest and the largest number of each activation, and zero."""
        self._histograms: dict[str, Histogram] | None = None

    def ranges(self, rule: str) -> dict[str, Range]:
        """The range of each activation by a rule; zero is always inside. UnsupportedModel where one has no end."""
        self._refuse_endless()
        if rule == "minmax":
            return self.extremes
        if self._histograms is None:
            self._histograms = self._seen_histograms()
        return {name: RULES[rule](each) for name, each in self._histograms.items()}

    def _refuse_endless(self) -> None:
        endless = next((name for name, limits in self.extremes.items() if not np.isfinite(limits).all()), None)
        if endless is None:
            return
        maker = next((node for node in self._model.graph.node if endless in node.output), None)
        place = f"the input {endless!r}" if maker is None else f"the value {endless!r} of {place_of(maker)}"
        raise UnsupportedModel(
            f"On calibration images {place} is infinite or not a number, so it has no range to round within. "
            "Mend the model there, or export it in float32."
        )

    def _values(self) -> Iterable[Mapping[str, np.ndarray]]:
        for portion in self._portions:
            yield {self._input: portion} | dict(
                zip(self._names, self._session.run(self._names, {self._input: portion}))
            )

    def _seen_extremes(self) -> dict[str, Range]:
        found: dict[str, Range] = {}
        for values in self._values():
            for name, each in values.items():
                low, high = found.get(name, (0.0, 0.0))
                found[name] = float(np.minimum(low, each.min())), float(np.maximum(high, each.max()))  # these keep NaN
        return found

    def _seen_histograms(self) -> dict[str, Histogram]:
        counts = {name: np.zeros(_BINS) for name in self.extremes}
        for values in self._values():
            for name, each in values.items():
                some = each.ravel()[:: _step(each.size, len(each) * _VALUES)]
                counts[name] += np.histogram(some[some != 0], _BINS, _wide(self.extremes[name]))[0]
        return {name: Histogram(*_wide(self.extremes[name]), each) for name, each in counts.items()}


def _step(size: int, most: int) -> int:
    """The distance between values that are looked at; it shares no divisor with an axis, or columns would be missed."""
    step = max(1, size // most)
    while math.gcd(step, size) > 1:
        step += 1
    return step


def _wide(extremes: Range) -> Range:
    low, high = extremes
    return (low, high) if high > low else (0.0, 1.0)


def _activations(model: onnx.ModelProto) -> list[str]:
    """The float32 values that nodes of the model make out of its inputs."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)}
    made = [name for node in graph.node if node.op_type != "Constant" for name in node.output]
    return [name for name in made if types.get(name) == onnx.TensorProto.FLOAT]


def _showing(model: onnx.ModelProto, names: Iterable[str]) -> bytes:
    """The model with all these values as outputs."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    already = {output.name for output in shown.graph.output}
    shown.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names if name not in already
    )
    content: bytes = shown.SerializeToString()
    return content


def _percentile(values: Histogram) -> Range:
    if not values.counts.any():
        return values.low, values.high
    share = np.cumsum(values.counts) / values.counts.sum()
    low, high = np.searchsorted(share, [_TAIL, 1 - _TAIL])
    edges = np.linspace(values.low, values.high, len(values.counts) + 1)
    return min(0.0, float(edges[low])), max(0.0, float(edges[high + 1]))


def _least_squares(values: Histogram) -> Range:
    """The range with the smallest mean square error of rounding and clipping together."""

    def error(share: float) -> float:
        low, high = values.shrunk(share)
        clipped = values.centres - np.clip(values.centres, low, high)
        rounding = ((high - low) / (_LEVELS - 1)) ** 2 / 12
        return float((values.counts * np.where(clipped == 0, rounding, clipped**2)).sum())

    return values.shrunk(min(_SHARES, key=error))


def _entropy(values: Histogram) -> Range:
    """The range whose rounded distribution tells most of the true one (smallest Kullback-Leibler divergence)."""
    return values.shrunk(min(_SHARES, key=lambda share: _divergence(values, *values.shrunk(share))))


def _divergence(values: Histogram, low: float, high: float) -> float:
    inside = (values.centres >= low) & (values.centres <= high)
    counts = values.counts[inside]
    if not counts.sum():
        return np.inf
    true = counts.copy()
    first = int(inside.argmax())
    true[0] += values.counts[:first].sum()
    true[-1] += values.counts[first + len(counts) :].sum()
    starts = np.unique(np.linspace(0, len(counts), min(_LEVELS, len(counts)), endpoint=False).astype(int))
    level = np.repeat(np.arange(len(starts)), np.diff([*starts, len(counts)]))
    filled = counts > 0
    each = np.bincount(level, counts) / np.maximum(1, np.bincount(level, filled))
    rounded = np.where(filled, each[level], 0.0)
    p, q = true / true.sum(), rounded / rounded.sum()
    seen = p > 0
    return float((p[seen] * np.log(p[seen] / np.maximum(q[seen], 1e-12))).sum())


RULES: dict[str, Callable[[Histogram], Range]] = {
    "percentile": _percentile,
    "mse": _least_squares,
    "entropy": _entropy,
}
