"""The explanation of a model's groups: coupled layers, layers that stay whole, and the reasons."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from edgecr.surgery.tracing.graph import explained
from edgecr.surgery.tracing.proof import proven_channels


@dataclass(frozen=True)
class ExplainedGroup:
    """One group of channels that go together, or one layer whose channels stay."""

    name: str
    channels: int
    """Channels that can go one by one; of a layer that stays, its channels."""
    removable: bool
    layers: tuple[str, ...]
    """The layers that make these channels."""
    readers: tuple[str, ...]
    """The layers that read them."""
    why: tuple[str, ...]
    """The reasons that tie the channels together, or that keep them from removal."""


def explain(module: nn.Module, input_shape: tuple[int, ...]) -> tuple[ExplainedGroup, ...]:
    """The groups of a model and the layers that stay whole, each with its reasons."""
    graph = proven_channels(module, input_shape)
    groups = (ExplainedGroup(g.name, g.width, True, g.layers, g.readers, g.reasons) for g in explained(graph))
    stays = (ExplainedGroup(f.layer, f.channels, False, (f.layer,), (), (f.reason,)) for f in graph.frozen)
    return (*groups, *stays)
