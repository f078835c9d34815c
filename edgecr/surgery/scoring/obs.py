"""Optimal brain surgeon for channels: the cost of removing each for its readers once they are refitted (OBC, ZipLM).

Channels go in bundles, always the ones that cost the least; what is left is refitted in closed form after each bundle,
so a channel that another one can stand in for is cheap until that other one is gone.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from edgecr.surgery.repair.moments import Moments
from edgecr.surgery.repair.structure import structure
from edgecr.surgery.tracing.graph import Group, Place
from edgecr.surgery.tracing.running import running, state_of
from edgecr.surgery.tracing.slots import Values
from edgecr.surgery.tracing.trace import TensorMember

BUNDLES = 32
"""At most so many bundles are eliminated from one group.

They are not the aligned widths of a device: scores are computed before a plan knows its targets, and serve all of them.
"""
RIDGE = 0.01
"""Load of the readers' matrices, relative to the mean square of an input."""


def output_scales(module: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """The factors that batch norms give the outputs of the layers in front of them, by weight."""
    with running(module):
        known, state = structure(module, images[:2]), state_of(module)
        return {
            use.weight: state[norm.weight] / torch.sqrt(state[norm.running_var] + norm.eps)
            for use, around in known.places.items()
            if (norm := around.norm) is not None and norm in known.norms.values() and not known.shared(use.weight)
        }


def elimination(
    group: Group,
    weights: Mapping[str, Tensor],
    moments: Mapping[str, Moments],
    scales: Mapping[str, Tensor] | None = None,
) -> Values:
    """The growth of the readers' relative error with each channel, in the order of elimination: it never falls.

    ``scales`` are the factors of the outputs of some weights, as batch norms behind them have it. Readers without
    moments cannot be refitted, and lose what they read of a channel.
    """
    readers, result = list[_Reader](), np.zeros(group.width)
    plain = list[tuple[Place[TensorMember], Tensor]]()
    for place in group.reads or group.weights:
        name, dim = place.member.tensor, place.member.dim
        weight = _scaled(weights[name], (scales or {}).get(name))
        if name in moments and dim == 1:
            readers.append(_Reader.of(weight, moments[name], place.positions))
        else:
            plain.append((place, weight))
    if not readers:
        warnings.warn(_unmeasured(group), stacklevel=2)
    powers = np.mean([reader.power for reader in readers], axis=0) if readers else np.ones(group.width)
    fixed = np.sum([_shares(place, weight, powers) for place, weight in plain], axis=0) + result
    left, step, floor = np.arange(group.width), max(1, group.width // BUNDLES), 0.0
    while len(left):
        costs = fixed[left] + np.sum([reader.costs(left) for reader in readers], axis=0)
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


def _scaled(weight: Tensor, scale: Tensor | None) -> Tensor:
    """A copy in double precision, with outputs as large as they are behind their batch norm."""
    copy = weight.detach().to("cpu", torch.float64, copy=True)
    if scale is not None:
        copy *= scale.detach().double().cpu().abs().reshape(-1, *[1] * (copy.dim() - 1))
    return copy


def _unmeasured(group: Group) -> str:
    readers = ", ".join(group.readers) or "none were seen"
    return (
        f"Score obs cannot measure what the readers of group {group.name} read ({readers}), so its channels count by "
        "the squares of their weights alone; score l2 or taylor compares them with other groups better."
    )


def _shares(place: Place[TensorMember], weight: Tensor, powers: Values) -> Values:
    """The share of a layer's outputs that hangs on each channel, if inputs have these mean squares and are unrelated.

    Inputs of other groups count with the mean of them.
    """
    others = [axis for axis in range(weight.dim()) if axis != place.member.dim]
    squares: Values = weight.square().sum(others).numpy()
    own: Values = squares[place.positions].sum(1)
    total = float(own @ powers + (squares.sum() - own.sum()) * powers.mean())
    return own * powers / max(total, 1e-30)


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
    power: Values
    """The mean square of each channel's inputs."""

    @classmethod
    def of(cls, weight: Tensor, moments: Moments, channels: np.ndarray) -> _Reader:
        """Inverts the covariance with a load, and keeps the weight; ``channels`` are positions on its input axis."""
        covariance = moments.covariance
        groups, size = covariance.shape[:2]
        matrix = weight.reshape(groups, len(weight) // groups, -1)
        unit = covariance.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-30)
        loaded = covariance + (RIDGE * unit)[:, None, None] * torch.eye(size, dtype=torch.float64)
        taps = size // weight.shape[1]
        index = torch.from_numpy(channels)[:, :, None] * taps + torch.arange(taps)
        scale = float(((matrix @ covariance) * matrix).sum())
        index = index.flatten(1)
        squares = moments.gram.diagonal(dim1=1, dim2=2).mean(0) / moments.rows
        power: Values = squares[index].mean(1).numpy()
        return cls(torch.linalg.inv(loaded), matrix, index, max(scale, 1e-30), power)

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
