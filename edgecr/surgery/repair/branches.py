"""Residual branches that can go as a whole: without them their block hands on its input as it is.

Whether a block does so is tried out on images, with the branch's last layer silenced: a stride, a projection or an
activation that changes the stream shows in the values. An identity in its place must then answer alike: code elsewhere
that looks into the block, or hands it more than one input, would miss it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from edgecr.surgery.repair.structure import Application, Structure, structure
from edgecr.surgery.tracing.running import running, state_of

_SAME = 1e-5
"""Difference from the input, relative to its largest value, that rounding explains."""

LOOKED_AT = 8
"""Images that a block must hand on."""


@dataclass(frozen=True)
class Branch:
    """One residual branch: its block, and what silences it."""

    block: str
    """Name of the module that becomes an identity without the branch."""
    silenced: tuple[str, ...]
    """Parameters that are zero when the branch adds nothing."""
    start: int
    """The first operator that these parameters change."""


def branches(module: nn.Module, images: Tensor) -> tuple[Branch, ...]:
    """The branches that can be dropped, in running order; the module is left as it was."""
    with running(module):
        known = structure(module, images[:2])
        return tuple(_found(module, known, images))


def _found(module: nn.Module, known: Structure, images: Tensor) -> Iterator[Branch]:
    taken: set[str] = set()
    for number, use in known.uses.items():
        place = known.places[use]
        if place.other is None or known.shared(use.weight):
            continue
        names = _silencing(known, use)
        block = _identity(module, use, names, images[:LOOKED_AT]) if names else ""
        if block and block not in taken:
            taken.add(block)
            yield Branch(block, names, number)


def _silencing(known: Structure, use: Application) -> tuple[str, ...]:
    """The parameters that make a branch add nothing when they are zero."""
    norm, bias = known.places[use].norm, known.biases.get(use.weight, "")
    if norm is not None:
        return (norm.weight, norm.bias) if norm in known.norms.values() else ()
    return () if bias in known.bias_shared else tuple(name for name in (use.weight, bias) if name)


@torch.no_grad()
def _identity(module: nn.Module, use: Application, names: tuple[str, ...], images: Tensor) -> str:
    """The smallest module around a layer that hands on its input while the branch is silent; empty if there is none."""
    around = use.layer.split(".")[:-1]
    candidates = [".".join(around[:depth]) for depth in range(len(around), 0, -1)]
    same: dict[str, bool] = {}

    def compare(name: str) -> Any:
        def hook(_: nn.Module, given: tuple[Any, ...], out: Any) -> None:
            same[name] = len(given) == 1 and _alike(given[0], out)

        return hook

    hooks = [module.get_submodule(name).register_forward_hook(compare(name)) for name in candidates]
    try:
        with _silent(module, names):
            answers = module(images.clone())
    finally:
        for handle in hooks:
            handle.remove()
    block = next((name for name in candidates if same.get(name)), "")
    return block if block and _spared(module, block, images, answers) else ""


@contextmanager
def _silent(module: nn.Module, names: tuple[str, ...]) -> Iterator[None]:
    """Sets parameters to zero for a while."""
    state = state_of(module)
    before = {name: state[name].detach().clone() for name in names}
    try:
        for name in names:
            state[name].zero_()
        yield
    finally:
        for name, value in before.items():
            state[name].copy_(value)


def _spared(module: nn.Module, block: str, images: Tensor, expected: Any) -> bool:
    """True if the module answers the same with an identity in the block's place."""
    parent, _, name = block.rpartition(".")
    owner, own = module.get_submodule(parent), module.get_submodule(block)
    setattr(owner, name, nn.Identity())
    try:
        found = module(images.clone())
    except Exception:  # the code is the user's, so anything may be raised
        return False
    finally:
        setattr(owner, name, own)
    pairs = zip(tree_leaves(expected), tree_leaves(found))
    return all(_alike(*pair) for pair in pairs if any(isinstance(one, Tensor) for one in pair))


def _alike(one: Any, other: Any) -> bool:
    """True for two tensors of one shape that differ by no more than rounding explains."""
    if not isinstance(one, Tensor) or not isinstance(other, Tensor) or one.shape != other.shape:
        return False
    return bool((one - other).abs().max() <= _SAME * other.abs().max().clamp_min(1e-30))
