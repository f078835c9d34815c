"""Learning-rate schedules as pure functions of the step: a resumed training needs no scheduler state."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgecr.training.options import TrainOptions

_RISE_SHARE = 0.3
_ONECYCLE_START = 1 / 25
_ONECYCLE_END = 1e-4 / 25


@dataclass(frozen=True)
class Steps:
    """Number of updates in an epoch and in the whole training."""

    per_epoch: int
    total: int


def factor(step: int, steps: Steps, options: TrainOptions) -> float:
    """The factor of the peak learning rate at an update, counted from 0."""
    warmup = round(options.warmup * steps.per_epoch)
    if options.schedule == "onecycle":
        return _onecycle(step, warmup or round(_RISE_SHARE * steps.total), steps.total)
    if step < warmup:
        return (step + 1) / warmup
    if options.schedule == "multistep":
        passed = sum(step >= mark * steps.per_epoch for mark in options.milestones)
        return options.gamma**passed
    done = (step - warmup) / max(1, steps.total - warmup)
    if options.schedule == "cosine":
        return _cosine(1.0, 0.0, done)
    if options.schedule == "poly":
        return float((1 - done) ** options.power)
    return 1.0


def _onecycle(step: int, rise: int, total: int) -> float:
    """Smith's one cycle: up to the peak and down to almost nothing, both along half a cosine."""
    peak = max(1, rise - 1)
    if step <= peak:
        return _cosine(_ONECYCLE_START, 1.0, step / peak)
    return _cosine(1.0, _ONECYCLE_END, (step - peak) / max(1, total - 1 - peak))


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2
