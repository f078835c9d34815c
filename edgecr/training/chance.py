"""Tells of a training after which a model answers no better than chance."""

from __future__ import annotations

import math

from edgecr.training.context import StepContext
from edgecr.training.history import History

_ERRORS = 3
"""Standard errors above chance within which a score may still be chance."""


def by_chance(history: History, keep: str, context: StepContext) -> str:
    """The sentence for a model whose validation score chance would explain; empty for a better one."""
    data, score = context.data, history.score(keep)
    if score is None or not len(data.validation):
        return ""
    images, chance = len(data.validation), data.task.chance(data.validation.labels)
    if chance is None or score > chance + _ERRORS * math.sqrt(chance * (1 - chance) / images):
        return ""
    found = f"{score:.1%} of {images} validation images"
    return f"The model answers by chance after this step: {found}, where luck gives {chance:.1%}"
