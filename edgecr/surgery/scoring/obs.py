"""Optimal brain surgeon for channels: the cost of removing each for its readers once they are refitted (OBC, ZipLM).

Channels go in bundles, always the ones that cost the least; what is left is refitted in closed form after each bundle,
so a channel that another one can stand in for is cheap until that other one is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edgecr.surgery.repair.moments import Moments
from edgecr.surgery.tracing.graph import Group
from edgecr.surgery.tracing.slots import Values

BUNDLES = 32
"""At most so many bundles are eliminated from one group."""
RIDGE = 0.01
"""Load of the readers' matrices, relative to the mean square of an input."""


def elimination(group: Group, weights: Mapping[str, Tensor], moments: Mapping[str, Moments]) -> Values:
    """The growth of the readers' relative error with each channel, in the order of elimination: it never falls."""
    readers = [
        _Reader.of(weights[place.member.tensor], moments[place.member.tensor], place.positions)
        for place in group.reads
        if place.member.tensor in moments and place.member.dim == 1
    ]
    result = np.zeros(group.width)
    if not readers:
        return result
    left, step, floor = np.arange(group.width), max(1, group.width // BUNDLES), 0.0
    while len(left):
        costs = np.sum([reader.costs(left) for reader in readers], axis=0)
        order = np.argsort(costs, kind="stable")
        bundle = left[order[:step]]
        floor = max(floor, float(costs[order[:step]].mean()))
        # within a bundle the cheaper ones are worth a little less, so that ranks are the order of elimination
        result[bundle] = floor * (1 + 1e-6 * np.arange(len(bundle)))
        floor *= 1 + 1e-6 * len(bundle)
        left = np.delete(left, order[:step])
        for reader in readers:
            reader.remove(bundle)
    return result


@dataclass
class _Reader:
    """One layer that reads the channels: its weights, and the inverse of its inputs' covariance."""

    inverse: Tensor
    """Shape (groups, unknowns, unknowns)."""
    weight: Tensor
    """Shape (groups, outputs, unknowns)."""
    index: Tensor
    """The unknowns of each channel, shape (channels, unknowns of a channel)."""
    scale: float
    """The variance of all outputs together."""

    @classmethod
    def of(cls, weight: Tensor, moments: Moments, channels: np.ndarray) -> _Reader:
        """Inverts the covariance with a load; ``channels`` are positions on the weight's input axis."""
        covariance = moments.covariance
        groups, size = covariance.shape[:2]
        matrix = weight.detach().double().cpu().reshape(groups, len(weight) // groups, -1)
        unit = covariance.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-30)
        loaded = covariance + (RIDGE * unit)[:, None, None] * torch.eye(size, dtype=torch.float64)
        taps = size // weight.shape[1]
        index = torch.from_numpy(channels)[:, :, None] * taps + torch.arange(taps)
        scale = float(((matrix @ covariance) * matrix).sum())
        return cls(torch.linalg.inv(loaded), matrix, index.flatten(1), max(scale, 1e-30))

    def costs(self, channels: np.ndarray) -> Values:
        """The growth of the squared error when one of these channels goes and the rest is refitted."""
        index = self.index[torch.from_numpy(channels)]
        total = torch.zeros(len(channels), dtype=torch.float64)
        for inverse, weight in zip(self.inverse, self.weight):
            block = inverse[index[:, :, None], index[:, None, :]]
            own = weight[:, index].permute(1, 2, 0)  # (channels, unknowns of a channel, outputs)
            total += (own * torch.linalg.solve(block, own)).sum((1, 2))
        found: Values = (total / self.scale).numpy()
        return found

    def remove(self, channels: np.ndarray) -> None:
        """Takes channels away and refits the rest."""
        gone = self.index[torch.from_numpy(channels)].flatten()
        for number in range(len(self.inverse)):
            inverse, weight = self.inverse[number], self.weight[number]
            rows = inverse[gone]
            solved = torch.linalg.solve(rows[:, gone], torch.cat([rows, weight[:, gone].T], 1))
            wide = inverse.shape[1]
            weight -= solved[:, wide:].T @ rows
            inverse -= rows.T @ solved[:, :wide]
            weight[:, gone] = 0
            inverse[gone] = 0
            inverse[:, gone] = 0
            inverse[gone, gone] = 1  # keeps later blocks regular; the weight there is zero
