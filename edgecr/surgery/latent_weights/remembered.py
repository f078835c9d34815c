"""A result that is computed once for each state of the tensors that it follows from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")


class Remembered(Generic[Result]):
    """The last result, for as long as the tensors have the values it was computed of: one training step or evaluation.

    Every change in place raises the version of a tensor; one that moved to another device has another address.
    """

    def __init__(self) -> None:
        self._tensors: tuple[Tensor, ...] = ()
        self._state: tuple[object, ...] = ()
        self._result: Result | None = None

    def get(self, compute: Callable[[], Result], tensors: Sequence[Tensor], *settings: object) -> Result:
        """The result for these tensors and settings; it carries no gradients."""
        state = (*((tensor._version, tensor.data_ptr()) for tensor in tensors), *settings)
        same = len(tensors) == len(self._tensors) and all(one is two for one, two in zip(tensors, self._tensors))
        if self._result is None or not same or state != self._state:
            # What is made in inference mode could not be used by a later training step.
            with torch.inference_mode(False), torch.no_grad():
                self._result = compute()
            self._tensors, self._state = tuple(tensors), state
        return self._result
