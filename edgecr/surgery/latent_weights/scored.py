"""Weights that stay as they are while scores of them learn, which decide what weights the network sees.

The network sees the weights of the highest scores, as they are or as signs with one magnitude. A score learns as if
all weights were seen: its gradient is that of its weight times the weight and the sign of the score (Ramanujan et al.
2020; Diffenderfer and Kailkhura 2021, who have the magnitude no part in it; Sehwag et al. 2020).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from edgecr.surgery.latent import seen_through, stored
from edgecr.surgery.latent_weights.remembered import Remembered


def highest(scores: Sequence[Tensor], keep: float) -> list[Tensor]:
    """Masks of the entries with the highest magnitudes of all scores together: all but ``int((1 - keep) * n)``.

    Among equals those are left out that stand first.
    """
    sizes = [each.numel() for each in scores]
    flat = torch.cat([each.detach().abs().flatten() for each in scores])
    gone = left_out(keep, len(flat))
    if not gone:
        return [torch.ones_like(each, dtype=torch.bool) for each in scores]
    limit = flat.kthvalue(gone).values
    mask = flat > limit
    if surplus := len(flat) - gone - int(mask.sum()):  # equals at the limit, of which the last ones stay
        mask[(flat == limit).nonzero().flatten()[-surplus:]] = True
    return [part.view(each.shape) for part, each in zip(torch.split(mask, sizes), scores)]


def left_out(keep: float, number: int) -> int:
    """The entries that go when a share of so many is kept; rounding of the share itself does not count."""
    return int((1 - keep) * number + 1e-9 * number)


class Ranking:
    """Scores that compete for one share of the places: those of a tensor, or of a whole model."""

    def __init__(self, module: nn.Module, names: Sequence[str], keep: float) -> None:
        self._module, self._names = module, list(names)
        self.keep = keep
        """The share of entries that the network sees; it may change between two steps."""
        self._masks: Remembered[list[Tensor]] = Remembered()

    def mask(self, name: str, scores: Tensor) -> Tensor:
        """The mask of one of the tensors, whose scores are at hand."""
        every = [scores if each == name else stored(self._module, each)[1] for each in self._names]
        return self._masks.get(lambda: highest(every, self.keep), every, self.keep)[self._names.index(name)]


class ScoredWeight(nn.Module):
    """The form of one frozen weight that the network sees, as a function of its scores."""

    weight: Tensor

    def __init__(self, name: str, weight: Tensor, ranking: Ranking, *, signs: bool) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self._name, self._ranking, self._signs = name, ranking, signs
        self._seen: Remembered[Tensor] = Remembered()

    def forward(self, scores: Tensor) -> Tensor:
        """The weight that the network sees; gradients go to the scores."""
        mask = self._ranking.mask(self._name, scores)
        seen = self._seen.get(lambda: self._masked(mask), [self.weight, mask])
        found: Tensor = _ByScores.apply(scores, self.weight, seen)
        return found

    def _masked(self, mask: Tensor) -> Tensor:
        masked = self.weight * mask
        return masked.sign() * magnitude(masked, mask.sum()) if self._signs else masked


def magnitude(weight: Tensor, living: Tensor) -> Tensor:
    """The one magnitude nearest to so many living entries: their mean; 0 where there are none."""
    return weight.abs().sum() / living.clamp_min(1)


class _ByScores(torch.autograd.Function):
    """Hands on what was computed beside the graph, and the gradient past it."""

    @staticmethod
    def forward(context: Any, scores: Tensor, weight: Tensor, seen: Tensor) -> Tensor:
        context.save_for_backward(scores, weight)
        return seen.detach()  # another tensor of the same values: autograd marks what is returned here

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        scores, weight = context.saved_tensors
        return scores.sign() * weight * gradients[0], None, None


@contextmanager
def scored(
    module: nn.Module,
    scores: Mapping[str, Tensor],
    keep: float,
    *,
    together: bool = False,
    signs: bool = False,
    beside: Collection[nn.Parameter] = (),
) -> Iterator[list[Ranking]]:
    """Named weights are seen by scores that can learn; afterwards they are what the network saw last.

    ``together`` ranks all scores against one another, instead of those of each tensor among themselves; ``signs``
    has the network see one magnitude a tensor. Of all other parameters those ``beside`` can learn.
    """
    names = list(scores)
    parts = [names] if together else [[name] for name in names]
    rankings = [Ranking(module, part, keep) for part in parts]
    functions: dict[str, nn.Module] = {}
    for part, ranking in zip(parts, rankings):
        for name in part:
            parameter = module.get_parameter(name)
            functions[name] = ScoredWeight(name, parameter.detach().clone(), ranking, signs=signs)
            with torch.no_grad():
                parameter.copy_(scores[name])
    learning = {id(parameter) for parameter in (*beside, *map(module.get_parameter, names))}
    with _frozen_but(module, learning), seen_through(module, functions):
        yield rankings


@contextmanager
def _frozen_but(module: nn.Module, learning: Collection[int]) -> Iterator[None]:
    before = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    for parameter, _ in before:
        parameter.requires_grad_(id(parameter) in learning)
    try:
        yield
    finally:
        for parameter, learnt in before:
            parameter.requires_grad_(learnt)
