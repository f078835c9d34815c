"""How much each channel of a group matters; the least important ones go first."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edgecr.registry import Registry
from edgecr.surgery.graph import Group

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Evidence:
    """What scores may look at: the weights, and how to compare and draw."""

    module: nn.Module
    normalise: bool = False
    """Divide by what the number of inputs of a filter adds to its norm."""
    seed: int = 0

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers by name."""
        return dict([*self.module.named_parameters(), *self.module.named_buffers()])


Score = Callable[[Group, Evidence], Values]
scores: Registry[Score] = Registry("score")
"""Importance of each channel of a group, by name."""


@scores.register("l2")
def l2(group: Group, evidence: Evidence) -> Values:
    """Euclidean norm of all filters that make the channel, coupled layers together."""
    return np.sqrt(_summed(group, evidence, 2))


@scores.register("l1")
def l1(group: Group, evidence: Evidence) -> Values:
    """Sum of magnitudes of all filters that make the channel (Li et al. 2017)."""
    return _summed(group, evidence, 1)


@scores.register("random")
def random(group: Group, evidence: Evidence) -> Values:
    """A seeded draw that depends on nothing but the seed and the group's name."""
    return np.random.default_rng([evidence.seed, zlib.crc32(group.name.encode())]).random(group.width)


def _summed(group: Group, evidence: Evidence, power: int) -> Values:
    """Adds up powers of weights (or their mean over the inputs) over the layers of each channel."""
    total = np.zeros(group.width)
    for place in group.weights:
        tensor = evidence.tensors[place.member.tensor].detach()
        others = [axis for axis in range(tensor.dim()) if axis != place.member.dim]
        norms = torch.linalg.vector_norm(tensor.float(), power, others).double()
        sizes = (norms**power).cpu().numpy()[place.positions].sum(1)
        total += sizes * (tensor.shape[place.member.dim] / tensor.numel()) if evidence.normalise else sizes
    return total


def ranked(values: Values) -> npt.NDArray[np.int64]:
    """Channels from the least important on; equal scores in order of their index."""
    return np.argsort(values, kind="stable").astype(np.int64)
