"""The amounts left after each step of a pruning that takes several."""

from __future__ import annotations


def neurons_left(step: int, steps: int, dense: float, left: float) -> float:
    """The amount after a step, from ``dense`` before the first to ``left`` after the last one.

    Each step takes the same fraction of what is there (de Jorge et al. 2021), so the last ones, which hurt
    most, are small. The amount may be neurons or a latency; whole neurons are its ``round``.
    """
    share = step / steps
    return float(dense ** (1 - share) * left**share)
