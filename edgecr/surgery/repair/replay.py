"""Runs a module from some operator on, with what was computed before put in its place.

Many variants of a network differ from some layer on only. What lies before it is computed once; a replay fills in the
values that later operators read, and computes nothing else there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten
from typing_extensions import override

from edgecr.surgery.repair.stream import Numbered

_ASKS = ("_local_scalar_dense", "nonzero", "is_nonzero", "item", "equal")
"""Operators by which code looks at values: where it does, nothing may be left out."""


@dataclass
class Recording:
    """One pass over a chunk of images, and the values that passes from some operators on need."""

    values: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    """By operator and place among its results."""
    needed: dict[int, set[tuple[int, int]]] = field(default_factory=dict)
    """For each start the values that later operators read."""
    forms: dict[int, tuple[list[Any], Any]] = field(default_factory=dict)
    """For each operator the shapes, strides and types of its results, and how they were returned."""
    answers: Tensor = field(default_factory=lambda: torch.empty(0))


@dataclass(frozen=True)
class Flow:
    """The operators that make and read each value of a module's pass."""

    last_read: Mapping[tuple[int, int], int]
    looks: bool
    """True where the code looks at values, so that every pass has to be whole."""

    @classmethod
    def of(cls, module: nn.Module, images: Tensor) -> Flow:
        """Runs a module once; it must be in evaluation mode."""
        seen, read = _Reading(), images.clone()  # it may be changed in place
        with torch.no_grad(), seen:
            module(read)
        return cls(seen.last, seen.looks)

    def needed(self, start: int) -> set[tuple[int, int]]:
        """The values made before an operator that it or later ones read."""
        return {value for value, last in self.last_read.items() if value[0] < start <= last}


def record(module: nn.Module, images: Tensor, flow: Flow, starts: Collection[int]) -> Recording:
    """Runs a module on images and keeps what passes from these operators on need."""
    found = Recording()
    if not flow.looks:
        found.needed = {start: flow.needed(start) for start in starts}
    keep = {value for values in found.needed.values() for value in values}
    read = images.clone()  # it may be changed in place
    with torch.no_grad(), _Keeping(keep, found):
        found.answers = first_tensor(module(read))
    return found


def replay(module: nn.Module, images: Tensor, recording: Recording, start: int) -> Tensor:
    """The module's answers when nothing before an operator has changed since the recording."""
    needed, read = recording.needed.get(start), images.clone()
    with torch.no_grad():
        if needed is None:
            return first_tensor(module(read))
        with _From(start, {value: recording.values[value] for value in needed}, recording.forms):
            return first_tensor(module(read))


def first_tensor(out: Any) -> Tensor:
    """The answers of a model, of several the first."""
    while not isinstance(out, Tensor):
        out = next(iter(out.values())) if isinstance(out, Mapping) else out[0]
    return out


class _Reading(Numbered):  # type: ignore[no-untyped-call]
    """Notes the last reader of each result; an operator that changes its input makes that anew."""

    def __init__(self) -> None:
        super().__init__()
        self.last: dict[tuple[int, int], int] = {}
        self.looks = False
        self._made: dict[int, tuple[Tensor, tuple[int, int]]] = {}

    @override
    def call(self, func: Any, args: Any, kwargs: Any) -> Any:
        self.looks |= func._schema.name.partition("::")[2].rstrip("_") in _ASKS
        for leaf in tree_flatten((args, kwargs))[0]:
            if isinstance(leaf, Tensor) and id(leaf) in self._made:
                self.last[self._made[id(leaf)][1]] = self.number
        out = func(*args, **kwargs)
        for place, leaf in enumerate(tree_flatten(out)[0]):
            if isinstance(leaf, Tensor):
                self._made[id(leaf)] = (leaf, (self.number, place))  # kept alive, so that no other gets its id
        return out


class _Keeping(Numbered):  # type: ignore[no-untyped-call]
    """Keeps copies of some results, and the forms of all."""

    def __init__(self, keep: Collection[tuple[int, int]], into: Recording) -> None:
        super().__init__()
        self._keep, self._into = keep, into

    @override
    def call(self, func: Any, args: Any, kwargs: Any) -> Any:
        out = func(*args, **kwargs)
        leaves, form = tree_flatten(out)
        for place, leaf in enumerate(leaves):
            if (self.number, place) in self._keep:
                self._into.values[self.number, place] = leaf.clone()
        shapes = [(leaf.shape, leaf.stride(), leaf.dtype) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        self._into.forms[self.number] = (shapes, form)
        return out


class _From(Numbered):  # type: ignore[no-untyped-call]
    """Leaves out what lies before an operator, but for views, and fills in what is read later."""

    def __init__(
        self, start: int, values: Mapping[tuple[int, int], Tensor], forms: Mapping[int, tuple[list[Any], Any]]
    ) -> None:
        super().__init__()
        self._start, self._values, self._forms = start, values, forms

    @override
    def call(self, func: Any, args: Any, kwargs: Any) -> Any:
        if self.number >= self._start or func.is_view:
            out = func(*args, **kwargs)
        elif func._schema.is_mutable:
            out = args[0]
        else:
            shapes, form = self._forms[self.number]
            out = tree_unflatten([_empty(leaf) for leaf in shapes], form)
        for place, leaf in enumerate(tree_flatten(out)[0] if self.number < self._start else ()):
            value = self._values.get((self.number, place))
            if value is not None:
                leaf.copy_(value)
        return out


def _empty(form: Any) -> Any:
    if not isinstance(form, tuple):
        return form
    shape, stride, dtype = form
    return torch.empty_strided(shape, stride, dtype=dtype)
