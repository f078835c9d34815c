"""Weights that are signs with a magnitude: minus, nothing or plus, times one number for each output channel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from edgecr.core.errors import UnsupportedModel
from edgecr.surgery.changes.base import Change, register
from edgecr.surgery.latent import seen_through, stored
from edgecr.surgery.latent_weights.signs import Scale, SignWeight, signs_of
from edgecr.surgery.promise import Figure, Promise, Weights, figures

BINARY = "binary"


@figures.register(BINARY)
class BinaryRows(Figure):
    """Weights of output channels in which all weights that are not zero have one magnitude.

    A batch norm that is folded into a layer scales a whole channel, and so leaves it at one magnitude.
    """

    words: ClassVar[str] = "binary weights"

    def count(self, weights: Weights) -> int:
        """The weights of all channels with one magnitude; a channel of nothing but zeros is one of them."""
        if not weights.size:
            return 0
        rows = np.abs(weights.reshape(len(weights), -1))
        largest = rows.max(axis=1, keepdims=True)
        whole = ((rows == 0) | (rows == largest)).all(axis=1)
        return int(np.count_nonzero(whole)) * int(rows.shape[1])

    def left(self, amount: int, removed: int) -> int:
        """All that is left: a channel of one magnitude stays one, whatever goes of it."""
        return max(0, amount - removed)


@register
class BinaryWeights(Change):
    """Tensors whose output channels have one magnitude each."""

    tag: ClassVar[str] = "binary"

    tensors: tuple[str, ...]
    """Names of the parameters: ``layer1.0.conv1.weight``."""
    scale: Scale = "channel"
    """Weights that share a magnitude: those of an output channel, or of the whole tensor."""

    def replay(self, module: nn.Module) -> None:
        """Leaves the module as it is, since only values differ; a tensor that it lacks is refused."""
        for name in self.tensors:
            try:
                stored(module, name)
            except AttributeError as error:
                raise UnsupportedModel(f"The model has no parameter {name!r} that could be binary.") from error

    def promise(self, module: nn.Module) -> Promise:
        """All weights of the tensors."""
        return Promise(figures={BINARY: {name: stored(module, name)[1].numel() for name in self.tensors}})

    @contextmanager
    def latent(self, module: nn.Module) -> Iterator[None]:
        """Latent weights behind their signs; tensors that went since, or that are latent already, are left out."""
        functions = {name: SignWeight(self.scale) for name in self.tensors if _is_plain(module, name)}
        with seen_through(module, functions):
            yield

    @torch.no_grad()
    def impose(self, module: nn.Module) -> None:
        """Gives the tensors the nearest values that they may have."""
        for name in self.tensors:
            parameter = module.get_parameter(name)
            parameter.copy_(signs_of(parameter, self.scale))


def binary_tensors(surgery: Iterable[Change]) -> set[str]:
    """The tensors that recorded changes made binary."""
    return {name for change in surgery if isinstance(change, BinaryWeights) for name in change.tensors}


def _is_plain(module: nn.Module, name: str) -> bool:
    try:
        return stored(module, name)[0] == name
    except AttributeError:
        return False
