"""Running a module once in evaluation mode without leaving traces."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from edgecr.errors import UnsupportedModel


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; each submodule gets its own mode back."""
    modes = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for child, training in modes:
            child.training = training


def example_for(module: nn.Module, input_shape: tuple[int, ...], *, batch: int = 1, seed: int = 0) -> Tensor:
    """Random input on the module's device, in its floating-point type."""
    values = torch.randn(batch, *input_shape, generator=torch.Generator().manual_seed(seed))
    parameter = next((p for p in module.parameters() if p.is_floating_point()), values)
    return values.to(parameter.device, parameter.dtype)


def output_tensors(out: Any) -> list[Tensor]:
    """All tensors that a model returned, in tuples, lists and dictionaries too."""
    leaves = tree_leaves(out)
    strange = [type(leaf).__name__ for leaf in leaves if not isinstance(leaf, (Tensor, int, float, str, type(None)))]
    if strange:
        raise UnsupportedModel(f"The model returns a {strange[0]}; return tensors, tuples, lists or dictionaries.")
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]
