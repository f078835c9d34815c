"""Optimisers built from options, and how one update is made of gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from edgecr.surgery.changes.cut import ChannelCut, without
from edgecr.training.masks import Masks
from edgecr.training.options import TrainOptions

Outcome = TypeVar("Outcome")


def build(module: nn.Module, options: TrainOptions) -> Optimizer:
    """The optimiser for all parameters that want gradients."""
    groups = _groups(module, options)
    fused = all(p.device.type in ("cpu", "cuda") for p in module.parameters())
    common: dict[str, Any] = {"lr": options.rate, "fused": fused}
    if options.optimiser == "sgd":
        return torch.optim.SGD(groups, momentum=options.momentum, nesterov=options.nesterov, **common)
    kind = torch.optim.Adam if options.optimiser == "adam" else torch.optim.AdamW
    return kind(groups, **common)


def _groups(module: nn.Module, options: TrainOptions) -> list[dict[str, Any]]:
    trained = [p for p in module.parameters() if p.requires_grad]
    if options.decay_norm:
        return [{"params": trained, "weight_decay": options.weight_decay}]
    decayed = [p for p in trained if p.ndim > 1]
    plain = [p for p in trained if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": options.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def set_rate(optimiser: Optimizer, rate: float) -> None:
    """Sets the learning rate of all groups."""
    for group in optimiser.param_groups:
        group["lr"] = rate


class Descent:
    """One plain update; a sharpness-aware one calls ``gradients`` a second time at a displaced point."""

    def __init__(
        self,
        parameters: Iterable[Tensor],
        optimiser: Optimizer,
        clip_norm: float | None,
        masks: Masks | None = None,
        gradient_hooks: Iterable[Callable[[], None]] = (),
    ) -> None:
        self.parameters, self.optimiser, self.clip_norm = list(parameters), optimiser, clip_norm
        self.masks = masks or Masks(nn.Module(), optimiser)
        self.gradient_hooks = gradient_hooks
        """Called when an update's gradients are there, before anything is added to them."""

    def __call__(self, gradients: Callable[[], Outcome]) -> Outcome:
        """``gradients`` clears the gradients, passes forward and backward, and tells what came out."""
        outcome = gradients()
        self.masks.clear_gradients()
        if self.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        for hook in self.gradient_hooks:
            hook()
        self.masks.pull()
        self.optimiser.step()
        torch.autograd.graph.increment_version(self.parameters)  # fused optimisers do not tell that they changed them
        self.masks.clear_weights()
        return outcome


def state_tensors(module: nn.Module, optimiser: Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as named tensors: ``PARAMETER/KEY``."""
    return {
        f"{name}/{key}": value
        for name, parameter in module.named_parameters()
        for key, value in optimiser.state.get(parameter, {}).items()
    }


def restore_state(module: nn.Module, optimiser: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Puts named tensors back, each in its parameter's memory order so that arithmetic goes on bit by bit."""
    parameters = dict(module.named_parameters())
    for full_name, value in tensors.items():
        name, _, key = full_name.rpartition("/")
        parameter = parameters[name]
        like = parameter.detach() if value.shape == parameter.shape else value.to(parameter.device)
        optimiser.state[parameter][key] = torch.empty_like(like, dtype=value.dtype).copy_(value)


def slimmed_state(state: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], cut: ChannelCut) -> dict[str, Tensor]:
    """The state after channels went: what was shaped like its parameter loses the same positions."""
    result = dict(state)
    for one in cut.tensors:
        for name, value in state.items():
            parameter, _, _ = name.rpartition("/")
            if parameter == one.tensor and value.shape == shapes[parameter]:
                result[name] = without(result[name], one)
    return result
