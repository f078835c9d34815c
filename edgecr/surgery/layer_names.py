"""Layers by what they are and by what users call them."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from edgecr.core.errors import RequestError, UnsupportedModel, suggestion


def matched(layers: Collection[str], patterns: Sequence[str]) -> set[str]:
    """The layers that name patterns mean; ``layer4`` also means everything inside it."""
    found: set[str] = set()
    for pattern in patterns:
        hits = {
            layer
            for layer in layers
            if fnmatch.fnmatchcase(layer, pattern) or fnmatch.fnmatchcase(layer, f"{pattern}.*")
        }
        if not hits:
            raise RequestError(f"exclude: no layer is called {pattern!r}. {suggestion(pattern, layers)}")
        found |= hits
    return found


def weighted_layers(
    module: nn.Module, exclude: Sequence[str] = (), *, shared_too: bool = False
) -> dict[str, nn.Linear | _ConvNd]:
    """Convolutions and linear layers by name, but for those that patterns exclude.

    Weights that several layers share are refused, unless ``shared_too`` asks for them.
    """
    known = {name: child for name, child in module.named_modules() if isinstance(child, (nn.Linear, _ConvNd))}
    left_out = matched(known, exclude)
    layers = {name: child for name, child in known.items() if name not in left_out}
    times = Counter(id(parameter) for _, parameter in module.named_parameters(remove_duplicate=False))
    for name, child in layers.items():
        if times[id(child.weight)] > 1 and not shared_too:
            raise UnsupportedModel(f"The weight of {name} is also another layer's; name both in exclude.")
    return layers


def normalisations(module: nn.Module) -> list[Any]:
    """The normalisations, whose scales and shifts are ``weight`` and ``bias``, or None."""
    return [child for child in module.modules() if isinstance(child, (_NormBase, nn.GroupNorm, nn.LayerNorm))]


def norm_parameters(module: nn.Module) -> list[nn.Parameter]:
    """The scales and shifts of all normalisations."""
    return [parameter for norm in normalisations(module) for parameter in norm.parameters(recurse=False)]
