"""The names of all gates in words, for the reference page: what each is about, its keys and their units."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from edgecr.report.gates.quantities import Kind, Quantity, quantities
from edgecr.robustness.conditions import MEAN, in_words

_PLAIN = {
    "p50": "median latency of one call on the device",
    "p90": "latency that nine calls in ten stay below",
    "p99": "latency that 99 calls in 100 stay below",
    "memory": "peak memory of the process that runs the model",
    "energy": "energy of one call, measured where the device has `power`",
    "throughput": "images in a second, measured where the device's protocol has `throughput`",
    "size": "size of the exported file (in reports: file size)",
    "params": "parameters of the model",
    "macs": "multiply-accumulates for one image",
    "budget": "what a pruning left over what it was asked to leave, of every figure of every pruning",
}
_SHARES = {
    Kind.ACCURACY: "accuracy",
    Kind.AGREEMENT: "share of images answered as the baseline does (needs no labels)",
}
_FRACTIONS = {Kind.ACCURACY: "fractions (0.01 is one point)", Kind.AGREEMENT: "a fraction (0.97 is 97 %)"}
_LOWER = {"ratio": "ratio: at most, of the baseline's", "max": "max: at most"}
_HIGHER = {"ratio": "ratio: at least, of the baseline's", "min": "min: at least"}


class GateWords(NamedTuple):
    """One row of the table of gates."""

    name: str
    meaning: str
    keys: str
    units: str


def gate_words() -> Iterator[GateWords]:
    """Every gate name that a recipe may use with the shipped suites."""
    for name, quantity in quantities().items():
        yield GateWords(name, _meaning(quantity), _keys(quantity), _units(quantity))


def _meaning(quantity: Quantity) -> str:
    if not quantity.is_share:
        return _PLAIN[quantity.field]
    about = _SHARES[quantity.kind]
    if quantity.suite is None:
        return f"{about} on the test images as they are"
    condition = "all corruptions, averaged" if quantity.condition == MEAN else in_words(quantity.condition)
    return f"{about} under suite {quantity.suite}: {condition}"


def _keys(quantity: Quantity) -> str:
    places = ("device", "batch") if quantity.kind is Kind.TIMING else ()
    confidence = () if set(quantity.uncertain) == set(quantity.limits) else ("confidence",)
    without = "".join(f" (not with `{limit}`)" for limit in quantity.uncertain)
    told = {"confidence": f"`confidence`{without}"}
    return ", ".join(told.get(key, f"`{key}`") for key in (*quantity.limits, *confidence, *places))


def _units(quantity: Quantity) -> str:
    if quantity.is_share:
        return f"{', '.join(quantity.limits)}: {_FRACTIONS[quantity.kind]}"
    if quantity.kind is Kind.BUDGET:
        return "ratio: at most, of what may remain"
    words, unit = (_HIGHER if quantity.more_is_better else _LOWER), quantity.scale.unit
    return "; ".join(words[limit] + (f", in {unit}" if limit != "ratio" and unit else "") for limit in quantity.limits)
