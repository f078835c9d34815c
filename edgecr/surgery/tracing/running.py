"""Running a module once without leaving traces in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._pytree import tree_leaves

from edgecr.core.errors import UnsupportedModel

Mode = Callable[[nn.Module], bool]
"""Predicate that is true for the submodules to run in training mode."""


def in_evaluation(_: nn.Module) -> bool:
    """Everything runs as when the model is used."""
    return False


def with_auxiliaries(module: nn.Module) -> bool:
    """Training of what has parts, so that auxiliary heads run; layers themselves stay in evaluation."""
    return any(True for _ in module.children())


@contextmanager
def running(module: nn.Module, mode: Mode = in_evaluation) -> Iterator[None]:
    """No gradients, and the given mode; each submodule gets its own mode back."""
    before = [(child, child.training) for child in module.modules()]
    for child, _ in before:
        child.training = mode(child)
    try:
        with torch.no_grad():
            yield
    finally:
        for child, training in before:
            child.training = training


@contextmanager
def layers_followed(module: nn.Module, path: list[str]) -> Iterator[None]:
    """Keeps the names of the running submodules in ``path``, innermost last; an error leaves them there."""
    names = {child: name for name, child in module.named_modules()}

    def enter(child: nn.Module, _: Any) -> None:
        path.append(names.get(child, type(child).__name__))

    def leave(_: nn.Module, __: Any, ___: Any) -> None:
        path.pop()

    before, after = register_module_forward_pre_hook(enter), register_module_forward_hook(leave)
    try:
        yield
    finally:
        before.remove()
        after.remove()


def example_for(module: nn.Module, input_shape: tuple[int, ...], *, batch: int = 1, seed: int = 0) -> Tensor:
    """Random input on the module's device, in its floating-point type."""
    values = torch.randn(batch, *input_shape, generator=torch.Generator().manual_seed(seed))
    parameter = next((p for p in module.parameters() if p.is_floating_point()), values)
    return values.to(parameter.device, parameter.dtype)


def output_tensors(out: Any) -> list[Tensor]:
    """All tensors that a model returned, in tuples, lists and dictionaries too."""
    leaves = tree_leaves(out)
    for leaf in leaves:
        if not isinstance(leaf, (Tensor, int, float, str, type(None))):
            kind, cure = type(leaf).__name__, "return tensors, tuples, lists or dictionaries"
            raise UnsupportedModel(f"The model returns {kind}, which cannot be looked into; {cure}.")
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers by name; a shared tensor under each of its names, the first one first."""
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


def shadows(module: nn.Module) -> dict[str, Tensor]:
    """Stand-ins without values for all parameters and buffers, so that a run costs next to nothing."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors}


def called_with(module: nn.Module, state: Mapping[str, Tensor], example: Tensor) -> Any:
    """The module's answer with other tensors in place of its own ones, which it has again afterwards.

    A tensor in several places gets the same stand-in in each of them, and each place is changed once: torch's own
    tying goes by name, and leaves a stand-in behind in a layer that bears two names.
    """
    own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    instead = {id(tensor): state[name] for name, tensor in own.items() if name in state}
    places = {
        f"{prefix}.{name}".lstrip("."): instead[id(tensor)]
        for prefix, child in module.named_modules()
        for name, tensor in (*child._parameters.items(), *child._buffers.items())
        if id(tensor) in instead
    }
    return functional_call(module, places, (example,), tie_weights=False)


def answers(
    module: nn.Module, example: Tensor, mode: Mode = in_evaluation, state: Mapping[str, Tensor] | None = None
) -> list[Tensor]:
    """All tensors that a module returns, with other tensors in place of its own; a failure names the layer."""
    path: list[str] = []
    try:
        with running(module, mode), layers_followed(module, path):
            out = module(example) if state is None else called_with(module, state, example)
    except Exception as error:  # the code is the user's, so anything may be raised
        where = f" in {path[-1]}" if path and path[-1] else ""
        shape = tuple(example.shape)
        raise UnsupportedModel(f"The model fails{where} on an input of shape {shape}: {error}") from error
    return output_tensors(out)
