"""Weights of one magnitude: the network sees the sign of a latent weight, times the mean size of its fellows."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from edgecr.surgery.latent_weights.remembered import Remembered

Scale = Literal["channel", "tensor"]
"""Weights that share a magnitude: those of an output channel, or of the whole tensor."""


def signs_of(weight: Tensor, scale: Scale) -> Tensor:
    """The nearest weight in which every output channel, or the tensor, has one magnitude; zeros stay."""
    rows = weight.detach().reshape(len(weight) if scale == "channel" else 1, -1)
    living = (rows != 0).sum(dim=1, keepdim=True).clamp_min(1)
    return (rows.sign() * (rows.abs().sum(dim=1, keepdim=True) / living)).view(weight.shape)


class SignWeight(nn.Module):
    """The form of a latent weight that the network sees: its sign with a magnitude (Rastegari et al. 2016).

    The gradient passes straight through where a latent weight lies within -1 and 1 (Hubara et al. 2016); the magnitude
    is taken anew in every step and has no part in it.
    """

    def __init__(self, scale: Scale) -> None:
        super().__init__()
        self._scale = scale
        self._seen: Remembered[Tensor] = Remembered()

    def forward(self, latent: Tensor) -> Tensor:
        """The weight that the network sees; gradients go to the latent weight."""
        seen = self._seen.get(lambda: signs_of(latent, self._scale), [latent])
        return clipped(latent, seen)


def clipped(latent: Tensor, seen: Tensor) -> Tensor:
    """The numbers that are seen in place of latent ones, to which the gradient passes within -1 and 1."""
    found: Tensor = _Clipped.apply(latent, seen)
    return found


class _Clipped(torch.autograd.Function):
    """Hands on what was computed beside the graph, and the gradient where a latent number is small enough."""

    @staticmethod
    def forward(context: Any, latent: Tensor, seen: Tensor) -> Tensor:
        context.save_for_backward(latent)
        return seen.detach()  # another tensor of the same values: autograd marks what is returned here

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (latent,) = context.saved_tensors
        return gradients[0] * (latent.abs() <= 1), None
