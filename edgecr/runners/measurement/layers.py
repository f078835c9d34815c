"""The time of each layer of an arm, and the share of it that is spent in integers."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from edgecr.runners.measurement.record import Measurement

WARM = 5
"""Calls that are left out where there are more: a session's first ones are slower."""
INTEGERS = ("QLinear", "QGemm", "QAttention", "ConvInteger", "MatMulInteger", "Int8")
CONVERSIONS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast", "ReorderInput", "ReorderOutput")


@dataclass(frozen=True)
class LayerShare:
    """One layer: its median time in a profiled session, and its share of all layers' time."""

    name: str
    op: str
    ms: float
    share: float


def layer_shares(measurement: Measurement, arm: int) -> list[LayerShare]:
    """The layers of an arm in the order in which they run; empty where nobody asked for them."""
    found = [(one, median(one.us[WARM:] or one.us) / 1e3) for one in measurement.layers if one.arm == arm]
    total = sum(ms for _, ms in found)
    return [LayerShare(one.name, one.op, ms, ms / total if total else 0.0) for one, ms in found]


def integer_share(layers: list[LayerShare]) -> float:
    """The share of time in operators that compute in integers."""
    return sum(one.share for one in layers if one.op.startswith(INTEGERS))


def conversion_share(layers: list[LayerShare]) -> float:
    """The share of time in operators that only convert numbers or their order."""
    return sum(one.share for one in layers if one.op in CONVERSIONS)
