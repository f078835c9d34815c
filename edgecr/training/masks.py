"""Entries of parameters that are zero while everything else learns: for good, or to the network only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

PULL = 2e-4
"""Hidden entries have this much of themselves added to their gradient, beside any weight decay (SMCP)."""


class Masks:
    """The pruned entries of a module's parameters, by name; part of a training's state.

    An entry that is pruned is zero. One that is hidden is zero to the network only: underneath it goes on learning by
    the gradient that the network has there, so it can come back (straight-through, as in SMCP).
    """

    def __init__(self, module: nn.Module, optimiser: Optimizer) -> None:
        self._parameters, self._optimiser = dict(module.named_parameters()), optimiser
        self._gone: dict[str, Tensor] = {}
        self._hidden: dict[str, Tensor] = {}

    @torch.no_grad()
    def prune(self, masks: Mapping[str, Tensor]) -> None:
        """Entries whose mask is 0 become and stay 0, momentum included; other parameters keep theirs."""
        for name, mask in masks.items():
            parameter, gone = self._parameters[name], self._zeros(name, mask)
            self._gone[name] = gone
            parameter.masked_fill_(gone, 0)
            for value in self._optimiser.state.get(parameter, {}).values():
                if isinstance(value, Tensor) and value.shape == gone.shape:
                    value.masked_fill_(gone, 0)

    def hide(self, masks: Mapping[str, Tensor]) -> None:
        """Entries whose mask is 0, and no others any more, are zero to the network until the next call."""
        self._hidden = {name: self._zeros(name, mask) for name, mask in masks.items()}

    def _zeros(self, name: str, mask: Tensor) -> Tensor:
        parameter = self._parameters[name]
        if mask.shape != parameter.shape:
            shapes = f"{tuple(mask.shape)}, not {tuple(parameter.shape)}"
            raise ValueError(f"the mask of {name} has the shape {shapes}")
        return (mask == 0).to(parameter.device)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Parameters as the network sees them; hidden entries come back to the same bits afterwards."""
        before = {name: self._parameters[name].detach().clone() for name in self._hidden}
        with torch.no_grad():
            for name, hidden in self._hidden.items():
                self._parameters[name].masked_fill_(hidden, 0)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, values in before.items():
                    self._parameters[name].copy_(values)

    def clear_gradients(self, *, hidden: bool = False) -> None:
        """Zeroes the gradients of pruned entries, and of covered ones where they should not count either."""
        for masks in (self._gone, self._hidden) if hidden else (self._gone,):
            for name, zeros in masks.items():
                if (gradient := self._parameters[name].grad) is not None:
                    gradient.masked_fill_(zeros, 0)

    @torch.no_grad()
    def pull(self) -> None:
        """Adds the pull towards zero to the gradients of hidden entries."""
        for name, hidden in self._hidden.items():
            parameter = self._parameters[name]
            if parameter.grad is not None:
                parameter.grad.add_(parameter * hidden, alpha=PULL)

    @torch.no_grad()
    def clear_weights(self) -> None:
        """Zeroes the pruned entries themselves, whatever an optimiser did to them."""
        for name, gone in self._gone.items():
            self._parameters[name].masked_fill_(gone, 0)

    def alive(self, name: str) -> Tensor | None:
        """Returns a mask of the rows of a parameter that have an entry not pruned to zero; None: all of them."""
        gone = self._gone.get(name)
        return None if gone is None else ~gone.reshape(len(gone), -1).all(dim=1)

    def tensors(self) -> dict[str, Tensor]:
        """The masks of pruned entries, true where an entry lives."""
        return {name: ~gone for name, gone in self._gone.items()}

    def hidden(self) -> dict[str, Tensor]:
        """The masks of hidden entries, true where the network sees an entry."""
        return {name: ~hidden for name, hidden in self._hidden.items()}
