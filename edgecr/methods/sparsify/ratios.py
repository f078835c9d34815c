"""Sparsities of one round after another: named lists, and steps by a fraction. Torch-free, as options are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Level = tuple[float, ...]
"""The sparsities of one round, masked one after another before a training follows."""
_GROUPS = 23


def in_rounds(sparsity: float, rounds: int) -> tuple[Level, ...]:
    """Rounds that each leave the same fraction of what was there; the last is exact."""
    return (*((1 - (1 - sparsity) ** (number / rounds),) for number in range(1, rounds)), (sparsity,))


def by_fraction(sparsity: float, fraction: float) -> tuple[Level, ...]:
    """Rounds that each take this fraction of what is left, as many as it takes; the last takes less, to be exact."""
    found: list[Level] = []
    left = 1 - fraction
    while left > 1 - sparsity + 1e-9:
        found.append((1 - left,))
        left *= 1 - fraction
    return (*found, (sparsity,))


def lip_resnet20() -> tuple[Level, ...]:
    """The prune ratios of ResNet-20 in Lost in Pruning: 23 trainings, each after three maskings."""
    parts = np.geomspace(0.99, 0.855, 2), np.geomspace(0.85, 0.15, 58), np.linspace(0.132, 0.02, 9)
    return tuple(tuple(1 - float(keep) for keep in group) for group in np.array_split(np.concatenate(parts), _GROUPS))


def lip_robust() -> tuple[Level, ...]:
    """The prune ratios of Lost in Pruning's robust trainings, of which each is trained."""
    return tuple((1 - float(keep),) for keep in np.geomspace(0.80, 0.03, 16))


RATIOS: dict[str, Callable[[], tuple[Level, ...]]] = {"lip_resnet20": lip_resnet20, "lip_robust": lip_robust}
"""Named lists."""


def cubic(number: int, steps: int, initial: float, final: float) -> float:
    """The sparsity after a step of a gradual pruning, counted from 0 (Zhu and Gupta 2017)."""
    return final + (initial - final) * (1 - number / steps) ** 3
