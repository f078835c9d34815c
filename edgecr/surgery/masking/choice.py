"""The choice of the weights that go: the lowest scores of the whole model, of each layer, or of each small block.

Counts are exact. Among equal scores those go that stand first, so that every machine chooses the same.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from edgecr.core.errors import BudgetError

WeightScores = Mapping[str, Tensor]
"""The importance of each weight, by the name of its tensor: never negative."""
_DEAD = -1.0
"""The score of a weight that is zero already: it goes before all others, and never returns."""


@dataclass(frozen=True)
class WeightChoice:
    """The rule by which weights are chosen."""

    scope: Literal["global", "layer"] = "global"
    min_density: float = 0.0
    """Share of its weights that every layer keeps at least, where all layers compete."""

    def masks(self, scores: WeightScores, share: float, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Masks that leave out this share of all weights, those that are zero already before any other.

        The number is ``round(share * n)``, where a half goes to the even number.
        """
        ready = {name: with_dead(each, weights[name]) for name, each in scores.items()}
        if self.scope == "layer":
            found = [lowest([each], round(share * each.numel()))[0] for each in ready.values()]
        else:
            sizes = [each.numel() for each in ready.values()]
            self.refuse_impossible(sizes, share)
            found = lowest([self._protected(each) for each in ready.values()], round(share * sum(sizes)))
        return {name: mask & (ready[name] >= 0) for name, mask in zip(ready, found)}

    def refuse_impossible(self, sizes: Collection[int], share: float) -> None:
        """BudgetError where each layer keeping its least leaves too few weights that may go."""
        total = sum(sizes)
        number, most = round(share * total), sum(size - self._least(size) for size in sizes)
        if number > most:
            raise BudgetError(
                f"{number:,} of {total:,} weights should go, but with min_density {self.min_density:g} at most "
                f"{most:,} can ({most / max(1, total):.1%}). Ask for less sparsity, or lower min_density."
            )

    def _least(self, size: int) -> int:
        return math.ceil(self.min_density * size)

    def _protected(self, scores: Tensor) -> Tensor:
        """The scores with the best ones of the layer beyond all others."""
        least = self._least(scores.numel())
        if not least:
            return scores
        (best,) = lowest([scores], scores.numel() - least)
        return scores.masked_fill(best & (scores >= 0), math.inf)


def with_dead(scores: Tensor, weight: Tensor) -> Tensor:
    """The scores, with those of weights that are zero already below all others."""
    return scores.contiguous().masked_fill(weight.cpu() == 0, _DEAD)


def lowest(scores: Sequence[Tensor], number: int) -> list[Tensor]:
    """Masks that are false at exactly so many of the lowest scores of all tensors together."""
    if number <= 0:
        return [torch.ones_like(each, dtype=torch.bool) for each in scores]
    flat = np.concatenate([each.reshape(-1).numpy() for each in scores])
    flat.partition(number - 1)
    limit = float(flat[number - 1])
    masks = [each > limit for each in scores]
    surplus = number - sum(int((each < limit).sum()) for each in scores)
    for mask, each in zip(masks, scores):
        equal = (each.reshape(-1) == limit).nonzero().flatten()
        mask.view(-1)[equal[surplus:]] = True
        surplus = max(0, surplus - len(equal))
    return masks


def in_blocks(scores: Tensor, kept: int, size: int) -> Tensor:
    """The mask that keeps the highest scores of each block of inputs, for a tensor of the shape (out, in, …)."""
    inputs = scores.movedim(1, -1)
    order = inputs.reshape(-1, size).sort(dim=1, stable=True).indices
    mask = torch.ones_like(order, dtype=torch.bool).scatter_(1, order[:, : size - kept], value=False)
    return mask.view(inputs.shape).movedim(-1, 1).contiguous()
