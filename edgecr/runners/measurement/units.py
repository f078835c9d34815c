"""Boards of one kind beside one another: a claim about the kind needs all of them to say the same."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from edgecr.core.estimate import Estimate
from edgecr.runners.measurement.identity import identity_of
from edgecr.runners.measurement.record import Measurement
from edgecr.runners.measurement.summary import Comparison, compare

NEAR = 0.03
"""Ratios that differ by less say the same, even if their intervals are narrower."""


def disagreements(measurement: Measurement) -> list[str]:
    """A sentence for each figure that two units give differently, and for units that are not alike."""
    if not measurement.others:
        return []
    units = [measurement, *measurement.others]
    found: dict[str, list[tuple[str, Estimate]]] = {}
    for one in units:
        for label, pair in _pairs(one):
            for figure, ratio in (("time", pair.ratio), ("energy", pair.energy_ratio)):
                if ratio is not None:
                    found.setdefault(f"the {figure} of {label} at batch {pair.batch}", []).append(
                        (one.unit or "?", ratio)
                    )
    return [
        *_unlike(units),
        *(
            f"units disagree about {what}: {', '.join(f'{unit} {_told(ratio)}' for unit, ratio in ratios)}"
            for what, ratios in found.items()
            if not all(_alike(one, other) for (_, one), (_, other) in itertools.combinations(ratios, 2))
        ),
    ]


def _unlike(units: list[Measurement]) -> Iterator[str]:
    """A sentence where units have other runtimes, releases or modes: one claim cannot be about both."""
    told = {one.unit or "?": "; ".join(identity_of(one).values()) for one in units if one.launches}
    if len(set(told.values())) > 1:
        yield f"units are not alike: {', '.join(f'{unit} has {what}' for unit, what in told.items())}"


def told_by_units(measurement: Measurement) -> list[str]:
    """A line for each further unit with the ratios that it found."""
    if not measurement.others:
        return []
    lines = [f"The figures are those of unit {measurement.unit}."]
    for other in measurement.others:
        ratios = [f"{label} at batch {pair.batch}: {_told(pair.ratio)}" for label, pair in _pairs(other) if pair.ratio]
        lines.append(f"Unit {other.unit} has {'; '.join(ratios) or 'no ratio'} of its own.")
        lines += [f"Unit {other.unit}: {warning}" for warning in other.warnings]
    return lines


def _pairs(measurement: Measurement) -> Iterator[tuple[str, Comparison]]:
    """Every label beside the first one."""
    first, *others = dict.fromkeys(arm.label for arm in measurement.arms)
    for label in others:
        for pair in compare(measurement, first, label):
            yield f"{label} / {first}", pair


def _alike(one: Estimate, other: Estimate) -> bool:
    """True for ratios whose intervals meet, or that are near to one another."""
    if abs(one.value / other.value - 1) <= NEAR:
        return True
    ends = one.low, one.high, other.low, other.high
    if any(end is None for end in ends):
        return False
    low, high, other_low, other_high = (float(end) for end in ends if end is not None)
    return low <= other_high and other_low <= high


def _told(ratio: Estimate) -> str:
    interval = f" [{ratio.low:.3f}, {ratio.high:.3f}]" if ratio.low is not None and ratio.high is not None else ""
    return f"{ratio.value:.3f}{interval}"
