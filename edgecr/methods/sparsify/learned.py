"""Scores that are learned while the weights stay as they are (Hydra, Sehwag et al. 2020)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from edgecr.core.errors import RequestError
from edgecr.subject import Subject
from edgecr.surgery.changes.binary import binary_tensors
from edgecr.surgery.latent import stored
from edgecr.surgery.latent_weights.scored import scored
from edgecr.surgery.layer_names import norm_parameters, weighted_layers
from edgecr.training.context import StepContext
from edgecr.training.loop import fit
from edgecr.training.options import TrainOptions


def learned_scores(
    subject: Subject, keep: float, options: TrainOptions, context: StepContext, exclude: Sequence[str] = ()
) -> dict[str, Tensor]:
    """Scores of all weights by name: the share ``keep`` of each tensor with the highest magnitudes is to stay.

    Weights and biases of the subject come back to the same bits; its normalisations have learnt with the scores.
    Weights that are zero already have a score of 0. Layers that ``exclude`` names are seen whole.
    """
    context.refuse_several_devices("score: hydra learns its scores")
    if binary_tensors(subject.surgery):
        raise RequestError("score: hydra needs weights of several sizes, and these are binary; sparsify them before.")
    module = subject.module
    layers = weighted_layers(module, exclude)
    weights = {f"{name}.weight": layer.weight.detach().clone() for name, layer in layers.items()}
    first = {name: first_scores(weight) for name, weight in weights.items()}
    loss = options.build_loss(subject, context)
    try:
        with scored(module, first, keep, beside=norm_parameters(module)):
            fit(module, options, loss, context, surgery=subject.surgery)
            return {name: stored(module, name)[1].detach().clone() for name in first}
    finally:
        with torch.no_grad():
            for name, weight in weights.items():
                module.get_parameter(name).copy_(weight)


def first_scores(weight: Tensor) -> Tensor:
    """Scores before any learning, which rank the weights by their own magnitudes."""
    largest = weight.abs().max()
    return weight * (math.sqrt(6 / weight[0].numel()) / largest if largest > 0 else 0.0)
