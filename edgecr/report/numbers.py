"""The format of figures: one place for digits, units, signs, intervals and missing values."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from edgecr.core.estimate import Estimate

MINUS = "\N{MINUS SIGN}"
MISSING = "INCOMPLETE"
"""The text shown for a missing figure; never an empty cell, never zero."""


@dataclass(frozen=True)
class Scale:
    """The display format of a kind of figure; ``digits`` None means three significant digits."""

    unit: str = ""
    factor: float = 1.0
    digits: int | None = None
    signed: bool = False


PERCENT = Scale("%", 100, 1)
POINTS = Scale("points", 100, 2, signed=True)
DIFFERENCE = Scale("", 100, 2, signed=True)
LOSS = Scale("points", 100, 2)
NATS = Scale()
RATIO = Scale("x", 1, 2)
MILLISECONDS = Scale("ms")
MEGABYTES = Scale("MB")
MILLIJOULES = Scale("mJ")
RATE = Scale("img/s")
COUNT = Scale()


def number(value: float, scale: Scale) -> str:
    """The bare number, with a true minus sign and thousands separated."""
    shown = value * scale.factor
    digits = scale.digits
    if digits is None:
        if abs(shown) >= 1e5:
            return _large(shown)
        digits = 2 - math.floor(math.log10(abs(shown))) if shown else 0
    text = f"{shown:{'+' if scale.signed else ''},.{max(0, min(digits, 6))}f}"
    if not any(digit in text for digit in "123456789"):
        text = text.lstrip("+-")
    return text.replace("-", MINUS)


def apart(value: float, bound: float, scale: Scale) -> Scale:
    """The scale with as many digits as it takes to tell two different figures apart."""
    for digits in range(scale.digits or 0, 7):
        if number(value, scale) != number(bound, scale) or value == bound:
            break
        scale = replace(scale, digits=digits + 1)
    return scale


def _large(shown: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(shown) >= size:
            return f"{shown / size:.{1 if abs(shown) >= 10 * size else 2}f} {letter}"
    return f"{shown:.0f}"


def with_unit(value: float, scale: Scale) -> str:
    """The number with its unit."""
    joiner = "" if scale.unit in ("", "x") else " "
    return f"{number(value, scale)}{joiner}{scale.unit}"


def point(estimate: Estimate | None, scale: Scale) -> str:
    """The point value with its unit, marked when nothing bounds its doubt, or INCOMPLETE."""
    if estimate is None:
        return MISSING
    return ("≈ " if estimate.low is None else "") + with_unit(estimate.value, scale)


def interval(estimate: Estimate | None, scale: Scale) -> str:
    """The interval in brackets; empty when there is none."""
    if estimate is None or exact(estimate) or estimate.low is None or estimate.high is None:
        return ""
    return f"[{number(estimate.low, scale)}, {number(estimate.high, scale)}]"


def figure(estimate: Estimate | None, scale: Scale) -> str:
    """The point value and its interval in one line."""
    return f"{point(estimate, scale)} {interval(estimate, scale)}".rstrip()


def exact(estimate: Estimate) -> bool:
    """True if the figure was counted, not sampled."""
    return estimate.confidence == 1.0


def counted(value: float) -> Estimate:
    """A figure without doubt, such as a number of parameters."""
    return Estimate(value, value, value, 1.0, note="counted")


def size(bytes_: int | None) -> str:
    """A file size in megabytes (10^6 bytes)."""
    return MISSING if bytes_ is None else with_unit(bytes_ / 1e6, MEGABYTES)


def count(value: int | None) -> str:
    """A whole number with separators."""
    return MISSING if value is None else f"{value:,}"


def confidence_text(confidence: float) -> str:
    """95 % rather than 0.95."""
    return f"{confidence * 100:g} %"
