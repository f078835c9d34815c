"""Shares of single weights in what a layer answers, by SiPP (Baykal et al. 2022, as in Liebenwein et al. 2021).

The share of a weight in one output at one place is its product with the activation, over the sum of all products of
that output with weights of the same sign; negative activations are treated as another image. A score is the mean
share over the places of an image, and of all images the largest. Biases take no part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgecr.core.errors import RequestError, UnsupportedModel
from edgecr.surgery.counters import count
from edgecr.surgery.scoring.pfp import sample_size
from edgecr.surgery.tracing.running import answers

NOTHING = 1.19e-7
"""Sums of products below this are no output at all."""
_BATCH = 16
"""Images that run together."""
_VALUES = 16 << 20
"""Activations that are laid out at once, each as often as a kernel reads it."""
_OPERATIONS = 4
"""Multiply-accumulates for each one of the model: sums and shares, for both signs of weights."""


@dataclass(frozen=True)
class Looking:
    """The way in which a score looks at images."""

    normalise: bool = True
    """Divide by what the output answers; without, a score is the product of weight and activation itself."""
    samples: int | None = None
    """Images to look at; as many as SiPP's bound asks for when left out."""
    most: int | None = None
    """Images that may be looked at."""
    say: Callable[[str], None] = lambda _: None
    """Callback that receives the cost of a pass over the images, before it begins."""


@torch.no_grad()
def shares(columns: Tensor, weight: Tensor, *, normalise: bool = True) -> Tensor:
    """The scores of a layer's weights by some images.

    ``columns`` are what each place reads, of the shape (images, groups, inputs, places); ``weight`` has the shape
    (groups, outputs, inputs), as the result.
    """
    if not normalise:
        return weight.abs() * columns.abs().mean(3).amax(0).unsqueeze(1)
    best = torch.zeros_like(weight)
    halves = [columns.relu()] + ([columns.neg().relu()] if bool((columns < 0).any()) else [])
    for positive in halves:
        for signed in (weight.relu(), weight.neg().relu()):
            outputs = signed @ positive
            inverse = torch.where(outputs > NOTHING, outputs.reciprocal(), 0)
            means = (inverse @ positive.transpose(2, 3)).amax(0) / columns.shape[3]
            best = torch.maximum(best, signed * means)
    return best.clamp_(max=1)


def read_shares(
    module: nn.Module, layers: Mapping[str, nn.Module], images: Iterable[Tensor], looking: Looking
) -> dict[str, Tensor]:
    """The scores of the weights of some layers, by the name of their tensor, from images that the module is shown."""
    for name, layer in layers.items():
        if not isinstance(layer, (nn.Conv2d, nn.Linear)):
            raise UnsupportedModel(
                f"Score sipp looks into convolutions of images and linear layers, and {name} is a "
                f"{type(layer).__name__}. Name it in exclude, or choose another score."
            )
    found: dict[str, Tensor] = {}

    def look(name: str, layer: nn.Conv2d | nn.Linear, given: tuple[Any, ...]) -> None:
        key, best = f"{name}.weight", found.get(f"{name}.weight")
        now = _of_layer(layer, given[0], looking)
        found[key] = now if best is None else torch.maximum(best, now)

    handles = [layer.register_forward_pre_hook(partial(_passed, look, name)) for name, layer in layers.items()]
    try:
        device = next(module.parameters()).device
        for batch in _some(module, images, looking):
            answers(module, batch.to(device))
    finally:
        for handle in handles:
            handle.remove()
    if unseen := [name for name in layers if f"{name}.weight" not in found]:
        raise UnsupportedModel(
            f"Score sipp did not see what {unseen[0]} reads: its weight is used without the layer being called. "
            "Name it in exclude, or choose another score."
        )
    for name in layers:
        if not bool(found[f"{name}.weight"].isfinite().all()):
            raise UnsupportedModel(
                f"What {name} reads or holds is so large, or no number at all, that shares of it cannot be computed. "
                "Train the model again, or choose another score."
            )
    return {f"{name}.weight": found[f"{name}.weight"].cpu() for name in layers}


def _passed(look: Callable[[str, Any, tuple[Any, ...]], None], name: str, layer: nn.Module, given: Any) -> None:
    look(name, layer, given)


def _some(module: nn.Module, images: Iterable[Tensor], looking: Looking) -> Iterator[Tensor]:
    """As many images as are wanted, a few at a time; the cost is told first."""
    left: int | None = None
    for batch in images:
        if left is None:
            left = _announced(module, tuple(batch.shape[1:]), looking)
        yield from torch.split(batch[:left], _BATCH)
        left -= min(left, len(batch))
        if not left:
            return
    if left is None:
        raise RequestError("Score sipp needs training images, and there are none. Choose another score.")


def _announced(module: nn.Module, shape: tuple[int, ...], looking: Looking) -> int:
    counted = count(module, shape)
    asked = looking.samples or sample_size([layer.weight_shape[0] * layer.out_positions for layer in counted.layers])
    size = asked if looking.most is None else max(1, min(asked, looking.most))
    fewer = f" ({asked} were asked for, but there are too few)" if size < asked else ""
    cost = size * _OPERATIONS * counted.macs / 1e9
    looking.say(f"Score sipp looks at {size} training images{fewer}: about {cost:.3g} billion operations.")
    return size


def _of_layer(layer: nn.Conv2d | nn.Linear, given: Tensor, looking: Looking) -> Tensor:
    """The scores of one layer by one batch, whose images are taken as many at a time as fit into memory."""
    weight, groups = layer.weight.detach(), layer.groups if isinstance(layer, nn.Conv2d) else 1
    matrix = weight.reshape(groups, len(weight) // groups, -1)
    best = torch.zeros_like(matrix)
    for part in torch.split(given, max(1, _fitting(layer, given))):
        columns = _columns(layer, part)
        columns = columns.reshape(len(part), groups, matrix.shape[2], -1)
        best = torch.maximum(best, shares(columns, matrix, normalise=looking.normalise))
    return best.view(weight.shape)


def _fitting(layer: nn.Conv2d | nn.Linear, given: Tensor) -> int:
    often = math.prod(layer.kernel_size) if isinstance(layer, nn.Conv2d) else 1
    return int(_VALUES // max(1, often * given[0].numel()))


def _columns(layer: nn.Conv2d | nn.Linear, given: Tensor) -> Tensor:
    """The inputs of each output place, of the shape (images, inputs, places)."""
    if isinstance(layer, nn.Linear):
        return given.reshape(len(given), -1, layer.in_features).transpose(1, 2)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = functional.pad(given, layer._reversed_padding_repeated_twice, mode=mode)
    return functional.unfold(padded, layer.kernel_size, layer.dilation, stride=layer.stride)
