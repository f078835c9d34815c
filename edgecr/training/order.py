"""The order in memory that a model's images have: channels last wherever the model's own code can work with it."""

from __future__ import annotations

import torch
from torch import nn

from edgecr.core.errors import UnsupportedModel
from edgecr.surgery.tracing.running import answers, in_evaluation, with_auxiliaries

USUAL, STANDARD = torch.channels_last, torch.contiguous_format


def order_for(module: nn.Module, size: tuple[int, int]) -> torch.memory_format:
    """The order of images that a module runs on as it is; code that calls ``view`` may need the standard one."""
    place = next((p.device for p in module.parameters()), torch.device("cpu"))
    images = torch.zeros(2, 3, *size, device=place).contiguous(memory_format=USUAL)
    with torch.random.fork_rng(devices=[]):
        for mode in (in_evaluation, with_auxiliaries):
            try:
                answers(module, images, mode)
            except UnsupportedModel:  # if the order is not to blame, the work itself meets the same error and tells it
                return STANDARD
    return USUAL


def place(module: nn.Module, device: torch.device, size: tuple[int, int]) -> torch.memory_format:
    """Moves a module to a device; convolutions train faster with channels last, on any processor. Returns the order."""
    module.to(device=device, memory_format=USUAL)  # type: ignore[call-overload]
    order = order_for(module, size)
    module.to(memory_format=order)
    return order
