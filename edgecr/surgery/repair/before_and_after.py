"""A model before and after its cuts: the outputs that are left, the layers still there, and those nobody repairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from edgecr.core.errors import UnsupportedModel
from edgecr.surgery.changes.cut import ChannelCut, as_positions
from edgecr.surgery.repair.stream import first_names
from edgecr.surgery.repair.structure import Application, Structure
from edgecr.surgery.tracing.running import state_of


def kept_outputs(dense: nn.Module, cuts: Sequence[ChannelCut]) -> dict[str, Tensor]:
    """For each weight that lost outputs the ones that are left, as positions in the dense weight."""
    kept: dict[str, np.ndarray] = {}
    widths = {name: tensor.shape[0] for name, tensor in state_of(dense).items() if tensor.dim() > 1}
    known = first_names(dense)
    for cut in cuts:
        for one in cut.tensors:
            if one.dim == 0 and one.tensor in widths:
                name = known[one.tensor]
                kept[name] = np.delete(kept.get(name, np.arange(widths[name])), as_positions(one.removed))
    return {name: torch.from_numpy(left) for name, left in kept.items()}


def still_there(whole: Structure, cut: Structure) -> Structure:
    """The cut model's structure without layers that only look like new ones: depthwise ones of one channel."""
    before = {use.weight for use in whole.uses.values()}
    uses = {number: use for number, use in cut.uses.items() if use.weight in before}
    for use in uses.values():
        if use not in whole.places:
            raise UnsupportedModel(
                f"{use.layer} runs more often than before the cut, so it cannot be repaired; leave the repair out."
            )
    return replace(cut, uses=uses, places={use: cut.places[use] for use in uses.values()})


def unseen(dense: nn.Module, cuts: Sequence[ChannelCut], cut: Structure) -> dict[str, str]:
    """Layers that lost inputs, but are none of those that a repair knows."""
    known, parameters = first_names(dense), dict(dense.named_parameters(remove_duplicate=False))
    seen = {use.layer for use in cut.uses.values()} | cut.skipped.keys()
    lost = (one.tensor for each in cuts for one in each.tensors if one.role == "in" and one.tensor in parameters)
    layers = (Application(known[name]).layer for name in lost if parameters[name].dim() > 1)
    why = "it is no convolution or linear layer, or does not run when the model is used"
    return {layer: why for layer in layers if layer not in seen}
