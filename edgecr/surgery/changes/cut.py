"""Physical removal of channels: the record, what it does to a module, and the proof that it was right."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edgecr.core.errors import UnsupportedModel
from edgecr.core.options import Options
from edgecr.surgery.changes.base import Change, register
from edgecr.surgery.promise import Promise
from edgecr.surgery.tracing.running import Mode, answers, example_for, in_evaluation, state_of, with_auxiliaries
from edgecr.surgery.tracing.trace import Role

TOLERANCE = 1e-4
"""Relative difference above which a cut module counts as wrong (sums in another order stay below 1e-5)."""


class TensorCut(Options):
    """The positions that leave one axis of a parameter or buffer."""

    tensor: str
    """Name in the module's state."""
    dim: int
    """The axis that shrinks."""
    removed: str
    """Positions as text: ``0-3,7``."""
    role: Role = "out"
    """``out`` if the axis makes channels, ``in`` if it reads them."""
    closes: bool = False
    """True if masks of what makes the channels also cover this reader: zeros do not stay zeros on the way to it."""

    def masked_by(self, role: Role) -> bool:
        """Returns True if a mask of what makes (``out``) or reads (``in``) the channels covers this axis."""
        return self.role == role or self.closes


class SettingCut(Options):
    """The new value of an integer attribute of a module that counts channels."""

    module: str
    """Name of the module."""
    setting: str
    """Name of the attribute."""
    value: int
    """Its value after the cut."""


class GroupCut(Options):
    """The number of channels that one group lost."""

    group: str
    """Name of the group: the first layer that makes its channels."""
    width: int
    """Channels before the cut."""
    removed: int
    """Channels that went."""


@register
class ChannelCut(Change):
    """One removal of channels, complete enough to be repeated on a fresh copy of the architecture."""

    tag: ClassVar[str] = "cut"

    tensors: tuple[TensorCut, ...] = ()
    """Axes that shrink."""
    settings: tuple[SettingCut, ...] = ()
    """Attributes that change."""
    groups: tuple[GroupCut, ...] = ()
    """Channels removed from each group, for display."""
    why: str = ""
    """The method that chose."""

    def replay(self, module: nn.Module) -> None:
        """Removes the channels from a fresh copy of the architecture."""
        remove(module, self)

    def promise(self, module: nn.Module) -> Promise:
        """Fewer output channels in every layer whose weights make some that went."""
        held = dict(module.named_parameters(remove_duplicate=False))
        gone: Counter[str] = Counter()
        for one in self.tensors:
            if one.role == "out" and one.tensor in held and held[one.tensor].dim() > 1:
                gone[one.tensor] += len(as_positions(one.removed)) * _groups_sharing(module, one)
        return Promise(gone)


def as_text(positions: npt.ArrayLike) -> str:
    """Positions as sorted ranges: ``0-3,7``."""
    ordered = np.sort(np.asarray(positions, dtype=np.int64))
    edges = np.flatnonzero(np.diff(ordered) != 1)
    firsts, lasts = ordered[[0, *(edges + 1)][: len(ordered)]], ordered[[*edges, -1][: len(ordered)]]
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in zip(firsts.tolist(), lasts.tolist()))


@lru_cache(maxsize=4096)  # the tensors of a layer and its readers repeat the same text
def as_positions(text: str) -> tuple[int, ...]:
    """The positions that a text of ranges names."""
    result: list[int] = []
    for part in text.split(",") if text else []:
        first, _, last = part.partition("-")
        result.extend(range(int(first), int(last or first) + 1))
    return tuple(result)


def remove(module: nn.Module, cut: ChannelCut) -> None:
    """Removes the channels: smaller tensors, and module attributes that say so."""
    owners = _owners(module)
    tensors = state_of(module)
    smaller: dict[str, Tensor] = {}
    for one in cut.tensors:
        smaller[one.tensor] = without(smaller.get(one.tensor, tensors[one.tensor]), one)
    for name, tensor in smaller.items():
        _replace(owners[id(tensors[name])], tensor)
    for setting in cut.settings:
        setattr(module.get_submodule(setting.module), setting.setting, setting.value)
    for child in module.modules():
        _fit_attributes(child)


@torch.no_grad()
def mask(module: nn.Module, cut: ChannelCut, role: Role = "out") -> None:
    """Zeroes the channels where they are made and normalised, or where they are read; all shapes stay.

    Where something on the way turns zeros into constants, what reads these is closed in either case.
    """
    tensors = state_of(module)
    for one in cut.tensors:
        if one.masked_by(role):
            tensor = tensors[one.tensor]
            tensor.index_fill_(one.dim, torch.tensor(as_positions(one.removed), device=tensor.device), 0)


def _groups_sharing(module: nn.Module, cut: TensorCut) -> int:
    """The output channels that go with one position: one for each group of a transposed convolution, else one."""
    owner = module.get_submodule(cut.tensor.rpartition(".")[0])
    return owner.groups if isinstance(owner, nn.modules.conv._ConvTransposeNd) and cut.dim == 1 else 1


def _owners(module: nn.Module) -> Mapping[int, list[tuple[nn.Module, str]]]:
    """All modules and attribute names under which each tensor is held."""
    owners: dict[int, list[tuple[nn.Module, str]]] = {}
    for child in module.modules():
        for name, tensor in [*child._parameters.items(), *child._buffers.items()]:
            if tensor is not None:
                owners.setdefault(id(tensor), []).append((child, name))
    return owners


def without(tensor: Tensor, cut: TensorCut) -> Tensor:
    """A copy of a tensor with the positions of one cut gone from their axis."""
    kept = np.delete(np.arange(tensor.shape[cut.dim]), as_positions(cut.removed))
    return tensor.detach().index_select(cut.dim, torch.from_numpy(kept).to(tensor.device))


def _replace(owners: list[tuple[nn.Module, str]], tensor: Tensor) -> None:
    """Puts a smaller tensor wherever the old one was, with the same kind, gradient flag and memory format."""
    first, attribute = owners[0]
    old = getattr(first, attribute)
    if old.dim() == 4 and old.is_contiguous(memory_format=torch.channels_last):
        tensor = tensor.contiguous(memory_format=torch.channels_last)
    new = nn.Parameter(tensor, requires_grad=old.requires_grad) if isinstance(old, nn.Parameter) else tensor
    for owner, name in owners:
        setattr(owner, name, new)


def _fit_attributes(module: nn.Module) -> None:
    """Makes the size attributes of a layer agree with its tensors."""
    weight = getattr(module, "weight", None)
    if isinstance(module, nn.modules.conv._ConvNd) and isinstance(weight, Tensor):
        made, read = (1, 0) if module.transposed else (0, 1)
        outer, inner = weight.shape[made], weight.shape[read]
        module.out_channels = outer * (module.groups if module.transposed else 1)
        module.in_channels = inner * (1 if module.transposed else module.groups)
    elif isinstance(module, nn.Linear) and isinstance(weight, Tensor):
        module.out_features, module.in_features = weight.shape
    elif isinstance(module, nn.modules.batchnorm._NormBase):
        vector = weight if isinstance(weight, Tensor) else module.running_mean
        module.num_features = len(vector) if isinstance(vector, Tensor) else module.num_features
    elif isinstance(module, nn.GroupNorm) and isinstance(weight, Tensor):
        module.num_channels = len(weight)
    elif isinstance(module, nn.RNNBase):
        module.input_size = module.get_parameter("weight_ih_l0").shape[1]
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(module.weight)


def verify(masked: nn.Module, slim: nn.Module, input_shape: tuple[int, ...], *, auxiliary: bool = False) -> float:
    """Raises unless both modules answer alike on random input; returns the relative difference.

    With ``auxiliary`` the heads that only run in training are compared too.
    """
    example = example_for(slim, input_shape, batch=2, seed=1)
    modes = (in_evaluation, with_auxiliaries) if auxiliary else (in_evaluation,)
    worst = _worst(_compared(masked, slim, example, mode) for mode in modes)
    if not math.isfinite(worst):
        raise UnsupportedModel(
            "The model's answers to random input are not finite numbers, so nothing tells whether channels can go; "
            "look for NaN or infinite weights, and for divisions by zero."
        )
    if worst > TOLERANCE:
        raise UnsupportedModel(
            f"The model without the channels differs from the masked one by {worst:.1e} of its output."
        )
    return worst


def _compared(masked: nn.Module, slim: nn.Module, example: Tensor, mode: Mode) -> float:
    expected, found = answers(masked, example, mode), answers(slim, example, mode)
    if [tensor.shape for tensor in expected] != [tensor.shape for tensor in found]:
        raise UnsupportedModel("Removing channels changed the shape of the model's output.")
    return _worst(_difference(one, other) for one, other in zip(expected, found))


def _worst(differences: Iterable[float]) -> float:
    """The largest difference; one that is not a number is worse than any (``max`` would forget it)."""
    return max(differences, key=lambda one: math.inf if math.isnan(one) else one, default=0.0)


def _difference(expected: Tensor, found: Tensor) -> float:
    """The largest difference relative to the largest answer; not a number where either answer is none."""
    if not expected.numel():
        return 0.0
    one, other = expected.cpu().double(), found.cpu().double()
    scale = one.abs().max().clamp_min(torch.finfo(torch.float32).tiny)
    return float((one - other).abs().max() / scale)
