"""Importance of single weights: their size, their share of what a layer answers, or chance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from edgecr.core.errors import UnsupportedModel
from edgecr.core.registry import Registry
from edgecr.surgery.masking.choice import WeightScores
from edgecr.surgery.masking.sipp import Looking, read_shares


@dataclass(frozen=True)
class WeightEvidence:
    """The data that scores of weights may use."""

    module: nn.Module
    layers: Mapping[str, nn.Module]
    """The layers whose weights may go, by name."""
    seed: int = 0
    images: Iterable[Tensor] = ()
    """Normalised training images in batches, for scores that need some."""
    looking: Looking = field(default_factory=Looking)

    def weights(self) -> dict[str, Tensor]:
        """The weights that may go, by the name of their tensor."""
        return {f"{name}.weight": layer.get_parameter("weight").detach() for name, layer in self.layers.items()}


Scoring = Callable[[WeightEvidence], WeightScores]
weight_scores: Registry[Scoring] = Registry("score of weights")


@weight_scores.register("magnitude")
def magnitude_scores(evidence: WeightEvidence) -> WeightScores:
    """The sizes of the weights; a weight that is no finite number is refused."""
    found = {name: weight.abs().float().cpu() for name, weight in evidence.weights().items()}
    for name, each in found.items():
        if not bool(each.isfinite().all()):
            raise UnsupportedModel(f"{name} holds NaN or infinite weights, which cannot be ranked; train it again.")
    return found


@weight_scores.register("random")
def random_scores(evidence: WeightEvidence) -> WeightScores:
    """A seeded draw from 0 to 1 for each weight."""
    generator = torch.Generator().manual_seed(evidence.seed % 2**63)
    return {name: torch.rand(weight.shape, generator=generator) for name, weight in evidence.weights().items()}


@weight_scores.register("sipp")
def share_scores(evidence: WeightEvidence) -> WeightScores:
    """The shares of what each output answers that hang on each weight (SiPP)."""
    return read_shares(evidence.module, evidence.layers, evidence.images, evidence.looking)
