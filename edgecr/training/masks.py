"""Entries of parameters that are held at exactly zero while everything else learns."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class Masks:
    """Which entries of a module's parameters are pruned, by name; part of a training's state."""

    def __init__(self, module: nn.Module, optimiser: Optimizer) -> None:
        self._parameters, self._optimiser = dict(module.named_parameters()), optimiser
        self._gone: dict[str, Tensor] = {}

    @torch.no_grad()
    def hold(self, masks: Mapping[str, Tensor]) -> None:
        """Entries whose mask is 0 become and stay 0, momentum included; other parameters keep theirs."""
        for name, mask in masks.items():
            parameter = self._parameters[name]
            if mask.shape != parameter.shape:
                shapes = f"{tuple(mask.shape)}, not {tuple(parameter.shape)}"
                raise ValueError(f"the mask of {name} has the shape {shapes}")
            gone = self._gone[name] = (mask == 0).to(parameter.device)
            parameter.masked_fill_(gone, 0)
            for value in self._optimiser.state.get(parameter, {}).values():
                if isinstance(value, Tensor) and value.shape == gone.shape:
                    value.masked_fill_(gone, 0)

    @torch.no_grad()
    def clear_gradients(self) -> None:
        """Zeroes the gradients of pruned entries."""
        for name, gone in self._gone.items():
            if (gradient := self._parameters[name].grad) is not None:
                gradient.masked_fill_(gone, 0)

    @torch.no_grad()
    def clear_weights(self) -> None:
        """Zeroes the pruned entries themselves, whatever an optimiser did to them."""
        for name, gone in self._gone.items():
            self._parameters[name].masked_fill_(gone, 0)

    def alive(self, name: str) -> Tensor | None:
        """Which rows of a parameter have an entry that is not pruned; None: all of them."""
        gone = self._gone.get(name)
        return None if gone is None else ~gone.reshape(len(gone), -1).all(dim=1)

    def tensors(self) -> dict[str, Tensor]:
        """The masks themselves, true where an entry lives."""
        return {name: ~gone for name, gone in self._gone.items()}
