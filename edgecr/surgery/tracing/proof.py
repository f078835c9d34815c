"""Tests of a module without some channels, to find the groups that it really can do without."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from edgecr.core.errors import UnsupportedModel
from edgecr.surgery.changes.cut import ChannelCut, mask, remove, verify
from edgecr.surgery.planning.plan import Plan
from edgecr.surgery.tracing.graph import ChannelGraph, Frozen, trace_channels


def proved(module: nn.Module, cut: ChannelCut, graph: ChannelGraph) -> tuple[nn.Module, float]:
    """A slimmed copy, and how far its answers are from a masked one's; raises if that is too far."""
    slim, difference = _compared(module, cut, graph)
    if _hides(module):
        difference = max(difference, _compared(awakened(module), cut, graph)[1])
    return slim, difference


def proven_channels(module: nn.Module, input_shape: tuple[int, ...]) -> ChannelGraph:
    """The groups of a module without those that it cannot be run without, because its code fixes their size.

    A trace takes sizes of views and splits to follow from shapes, as they mostly do; this tries it out.
    """
    graph = trace_channels(module, input_shape)
    failed = _failing(module, graph, range(len(graph.groups)))
    withheld = [
        Frozen(layer, graph.groups[number].width, f"the model's code needs all of them: {why}")
        for number, why in failed.items()
        for layer in graph.groups[number].layers
    ]
    groups = tuple(group for number, group in enumerate(graph.groups) if number not in failed)
    return replace(graph, groups=groups, withheld=tuple(withheld))


def _failing(module: nn.Module, graph: ChannelGraph, numbers: Sequence[int]) -> dict[int, str]:
    """The groups among these without whose channels the module fails or answers otherwise, and what it says."""
    if not numbers:
        return {}
    try:
        for plan in (_without_every_other(graph, numbers), _without_last(graph, numbers)):
            proved(module, plan.cut(), graph)
    except UnsupportedModel as error:
        if len(numbers) == 1:
            return {numbers[0]: str(error)}
        middle = len(numbers) // 2
        return _failing(module, graph, numbers[:middle]) | _failing(module, graph, numbers[middle:])
    return {}


def _without_every_other(graph: ChannelGraph, numbers: Sequence[int]) -> Plan:
    return _plan(graph, [np.arange(1, g.width, 2) if n in numbers else _NONE for n, g in enumerate(graph.groups)])


def _without_last(graph: ChannelGraph, numbers: Sequence[int]) -> Plan:
    return _plan(graph, [np.array([g.width - 1]) if n in numbers else _NONE for n, g in enumerate(graph.groups)])


_NONE = np.array([], dtype=np.int64)


def _plan(graph: ChannelGraph, removed: Sequence[np.ndarray]) -> Plan:
    kept = np.array([group.width - len(gone) for group, gone in zip(graph.groups, removed)], dtype=np.int64)
    return Plan(graph, kept, tuple(removed))


def _compared(module: nn.Module, cut: ChannelCut, graph: ChannelGraph) -> tuple[nn.Module, float]:
    masked, slim = copy.deepcopy(module), copy.deepcopy(module)
    mask(masked, cut)
    remove(slim, cut)
    return slim, verify(masked, slim, graph.input_shape, auxiliary=graph.auxiliary)


def _hides(module: nn.Module) -> bool:
    """Returns True if some weight is all zero, as in heads of untrained models; outputs then agree untested."""
    return any(parameter.dim() > 1 and not parameter.any() for parameter in module.parameters())


def awakened(module: nn.Module) -> nn.Module:
    """A copy with random numbers in place of weights that are all zero."""
    awake, generator = copy.deepcopy(module), torch.Generator().manual_seed(0)
    for parameter in awake.parameters():
        if parameter.dim() > 1 and not parameter.any():
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return awake
