"""Cut networks to repair, and what they answer."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from edgecr.surgery.changes.cut import ChannelCut, remove
from edgecr.surgery.repair.refit import RepairOutcome, Sample, repair
from edgecr.surgery.tracing.proof import proven_channels
from tests.surgery.conftest import disturbed, one_round


class Cut(NamedTuple):
    """A network, and the same without some of its channels."""

    dense: nn.Module
    slim: nn.Module
    cuts: Sequence[ChannelCut]


def cut(module: nn.Module, shape: tuple[int, ...], sparsity: float = 0.4) -> Cut:
    """A network with statistics and scales of its own, cut in all groups that it can do without."""
    settled(module, shape)
    disturbed(module)
    found, slim = one_round(module, proven_channels(module, shape), sparsity)
    return Cut(module, slim, (found,))


@torch.no_grad()
def settled(module: nn.Module, shape: tuple[int, ...]) -> None:
    """Gives all batch norms the statistics of some images, so that what deep networks answer depends on their input."""
    for child in module.modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            child.momentum = None
    module.train()(images(shape, 16, 16)[0])
    module.eval()


def without(module: nn.Module, *tensors: tuple[str, int, str, str]) -> Cut:
    """A network without the named positions of the named axes."""
    parts = [{"tensor": name, "dim": dim, "removed": gone, "role": role} for name, dim, gone, role in tensors]
    found, slim = ChannelCut.parse({"tensors": parts}), copy.deepcopy(module)
    remove(slim, found)
    return Cut(module.eval(), slim, (found,))


def images(shape: tuple[int, ...], count: int = 48, chunk: int = 24, seed: int = 1) -> list[Tensor]:
    """Smooth random images in chunks: neighbours are alike, as in photographs, and so are the colours."""
    generator = torch.Generator().manual_seed(seed)
    rough = torch.randn(count, *shape, generator=generator) + torch.randn(count, 1, *shape[1:], generator=generator)
    pool = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}[len(shape) - 1]
    return list(torch.split(2 * pool(3, 1, 1)(rough), chunk))


def repaired(
    made: Cut, shape: tuple[int, ...], free: Mapping[str, Tensor] | None = None, **settings: object
) -> tuple[nn.Module, RepairOutcome]:
    """A repaired copy of the cut network, and what the repair says of it."""
    settings = {"positions": 1000, "ridge": 0.01} | settings
    parts = settings.pop("images", None) or images(shape)
    slim = copy.deepcopy(made.slim)
    return slim, repair(made.dense, slim, made.cuts, Sample(parts, **settings), free)  # type: ignore[arg-type]


def error(dense: nn.Module, slim: nn.Module, parts: Sequence[Tensor]) -> float:
    """Squared difference of the answers, relative to their variance."""
    with torch.no_grad():
        one, other = (torch.cat([module.eval()(part) for part in parts]).double() for module in (dense, slim))
    return float((one - other).square().sum() / (one - one.mean(0)).square().sum())
