"""Convolutions that see the signs of their inputs: +1 above zero, else -1."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgecr.core.errors import UnsupportedModel
from edgecr.surgery.latent_weights.signs import clipped


class SignInputConv2d(nn.Conv2d):
    """A convolution behind the signs of its inputs; padding stays zero.

    The gradient passes straight through where an input lies within -1 and 1 (Hubara et al. 2016).
    """

    def forward(self, input: Tensor) -> Tensor:
        """The convolution of the signs."""
        signs = torch.where(input > 0, 1.0, -1.0).to(input.dtype)
        return super().forward(clipped(input, signs))


def sees_signs(module: nn.Module, name: str) -> None:
    """Makes a convolution one that sees signs, with the same tensors; UnsupportedModel where it cannot be one."""
    try:
        layer = module.get_submodule(name)
    except AttributeError as error:
        raise UnsupportedModel(f"The model has no layer {name!r} that could take signs.") from error
    if why := unfit(layer):
        raise UnsupportedModel(f"The layer {name!r} cannot take signs: {why}.")
    layer.__class__ = SignInputConv2d


def unfit(layer: nn.Module) -> str:
    """The reason why the kind of a layer forbids signs as its inputs; empty where it does not."""
    if not isinstance(layer, nn.Conv2d) or type(layer) not in (nn.Conv2d, SignInputConv2d):
        return f"it is a {type(layer).__name__}"
    if layer.groups > 1:
        return "its channels are in groups"
    return "" if layer.padding_mode == "zeros" else f"its padding is {layer.padding_mode}"


def layers_that_see_signs(module: nn.Module) -> list[str]:
    """The names of the convolutions that see signs."""
    return [name for name, layer in module.named_modules() if isinstance(layer, SignInputConv2d)]
