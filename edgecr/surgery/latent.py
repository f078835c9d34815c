"""Latent weights: parameters that the network sees through a function of them, such as their sign.

They are parametrisations of PyTorch: the module computes with the function's result, gradients reach the latent
weights, and ``state_dict`` holds these. A parameter's own name, as changes and masks know it, stays the key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.utils import parametrize


@contextmanager
def seen_through(module: nn.Module, functions: Mapping[str, nn.Module]) -> Iterator[None]:
    """Each named parameter becomes latent under a function; afterwards it holds what the network saw last."""
    put: list[tuple[nn.Module, str]] = []
    try:
        for name, function in functions.items():
            owner, own = _owner(module, name)
            parametrize.register_parametrization(owner, own, function, unsafe=True)
            put.append((owner, own))
        yield
    finally:
        with torch.no_grad():  # all of them first: a function may look at several latent parameters
            seen = [getattr(owner, own).detach().clone() for owner, own in put]
        for (owner, own), values in zip(put, seen):
            parametrize.remove_parametrizations(owner, own, leave_parametrized=False)
            with torch.no_grad():
                getattr(owner, own).copy_(values)


def stored_name(module: nn.Module, name: str) -> str:
    """The name under which the module holds a parameter now: another one while it is latent."""
    owner, own = _owner(module, name)
    if not parametrize.is_parametrized(owner, own):
        return name
    prefix = name[: -len(own)]
    return f"{prefix}parametrizations.{own}.original"


def stored(module: nn.Module, name: str) -> tuple[str, nn.Parameter]:
    """A parameter as the module holds it now, with its present name; AttributeError where there is none."""
    present = stored_name(module, name)
    return present, module.get_parameter(present)


def _owner(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, own = name.rpartition(".")
    return module.get_submodule(path), own
