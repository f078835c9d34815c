"""Weights that were set to zero and stay so. The mask is where the tensors are zero, so no copy can contradict it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import Self

from edgecr.core.errors import UnsupportedModel
from edgecr.core.options import Options
from edgecr.surgery.changes.base import Change, register
from edgecr.surgery.latent import stored
from edgecr.surgery.promise import ZEROS, Promise


class MaskedTensor(Options):
    """One parameter with zeros."""

    tensor: str
    """Name of the parameter: ``layer1.0.conv1.weight``."""
    zeros: Annotated[int, Field(ge=1)]
    """Number of entries that are zero, beside those that earlier changes told of."""


@register
class WeightMask(Change):
    """Single weights that are zero; their tensors keep their shapes."""

    tag: ClassVar[str] = "mask"

    tensors: tuple[MaskedTensor, ...]
    """All masked parameters, and no others."""

    @classmethod
    def of(cls, module: nn.Module, names: Iterable[str], known: Promise | None = None) -> Self:
        """The record of the zeros in these parameters, but for those ``known``; parameters without any are left out."""
        told = (known or Promise()).figures.get(ZEROS, {})
        zeros = {name: int((parameter_of(module, name) == 0).sum()) - told.get(name, 0) for name in names}
        found = tuple(MaskedTensor(tensor=name, zeros=number) for name, number in zeros.items() if number > 0)
        return cls(tensors=found)

    def replay(self, module: nn.Module) -> None:
        """Leaves the module as it is, since only values differ; a tensor that it lacks is refused."""
        for one in self.tensors:
            parameter_of(module, one.tensor)

    def promise(self, module: nn.Module) -> Promise:
        """The zeros of each tensor."""
        return Promise(figures={ZEROS: {one.tensor: one.zeros for one in self.tensors}})

    def masks(self, module: nn.Module) -> Mapping[str, Tensor]:
        """False where a masked parameter is zero; parameters that a later change removed are left out."""
        present = (_present(module, one.tensor) for one in self.tensors)
        return {found[0]: found[1] != 0 for found in present if found is not None}


def _present(module: nn.Module, name: str) -> tuple[str, Tensor] | None:
    try:
        return stored(module, name)
    except AttributeError:
        return None


def parameter_of(module: nn.Module, name: str) -> Tensor:
    """A parameter by name; UnsupportedModel for a module that lacks it."""
    try:
        return module.get_parameter(name)
    except AttributeError as error:
        raise UnsupportedModel(f"The model has no parameter {name!r} that could be masked.") from error


@torch.no_grad()
def set_to_zero(module: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Zeroes the entries whose mask is false."""
    for name, mask in masks.items():
        parameter_of(module, name).masked_fill_(~mask, 0)
