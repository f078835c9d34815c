"""Mean and deviation of pixels as a caller states them, checked: three numbers each, on a scale from 0 to 1.

Figures for pixels from 0 to 255 would be accepted by every formula and make any model answer by chance, so they are
refused with the figures that were meant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from edgecr.core.errors import RequestError

Channels = tuple[float, float, float]
MOST = 2.0
"""The largest mean or deviation: pixels from 0 to 1 have none near it, those from 0 to 255 hardly a smaller one."""
PIXELS = 255.0


def checked_scale(
    mean: Any, std: Any, written: Callable[[str, Sequence[Any]], str]
) -> tuple[Channels | None, Channels | None]:
    """Both as numbers, None where nothing was stated; ``written`` puts a name and values as the caller writes them."""
    centre = None if mean is None else _channels("mean", mean, math.isfinite, written)
    spread = None if std is None else _channels("std", std, lambda value: math.isfinite(value) and value > 0, written)
    if any(abs(value) > MOST for value in (*(centre or ()), *(spread or ()))):
        given, meant = (
            " ".join(written(name, values) for name, values in (("mean", one), ("std", other)) if values)
            for one, other in ((centre, spread), (_divided(centre), _divided(spread)))
        )
        raise RequestError(f"{given}: these look like figures for pixels from 0 to 255: divide them by 255: {meant}")
    return centre, spread


def scaling(mean: Any, std: Any) -> tuple[Channels | None, Channels | None]:
    """Both as a caller has them, as numbers or as the texts of ``--mean`` and ``--std``; errors speak as the caller."""
    texts = isinstance(mean, str) or isinstance(std, str)
    centre, spread = (value.split(",") if isinstance(value, str) else value for value in (mean, std))
    return checked_scale(centre, spread, as_options if texts else as_keywords)


def as_keywords(name: str, values: Sequence[Any]) -> str:
    """A name and values as a script writes them."""
    return f"{name}=({', '.join(map(_number, values))})"


def as_options(name: str, values: Sequence[Any]) -> str:
    """A name and values as the command line has them."""
    return f"--{name} {','.join(map(_number, values))}"


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, int | float) else str(value)


def _channels(
    name: str, given: Any, allowed: Callable[[float], bool], written: Callable[[str, Sequence[Any]], str]
) -> Channels:
    values = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else (given,)
    try:
        red, green, blue = (float(value) for value in values)
    except (TypeError, ValueError):
        red = green = blue = math.nan
    if not all(map(allowed, (red, green, blue))):
        above = ", all above 0" if name == "std" else ""
        raise RequestError(
            f"{written(name, values)}: give three numbers on a scale from 0 to 1{above}, for example "
            f"{written(name, (0.5, 0.5, 0.5))}."
        )
    return red, green, blue


def _divided(values: Channels | None) -> Channels | None:
    """The values on a scale from 0 to 1; those below 1 are on it already."""
    if values is None or max(map(abs, values)) < 1:
        return values
    red, green, blue = (value / PIXELS for value in values)
    return red, green, blue
