"""One forward pass under operator dispatch that follows channel slots from layer to layer.

An operator that no handler knows freezes the slots it touches: such a model is pruned less, never wrongly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from edgecr.errors import EdgecrError, UnsupportedModel
from edgecr.registry import Registry
from edgecr.surgery.running import evaluating, output_tensors
from edgecr.surgery.slots import Ids, Ledger, Slots

Role = Literal["out", "in"]


@dataclass(frozen=True)
class TensorMember:
    """One axis of a parameter or buffer; ``out`` makes or scales channels, ``in`` reads them."""

    tensor: str
    dim: int
    role: Role
    ids: Ids
    weight: bool
    """Whether this is the weight of a convolution or linear layer, so that its channels can be removed."""

    @property
    def layer(self) -> str:
        """The module that owns the tensor."""
        return self.tensor.rpartition(".")[0]


@dataclass(frozen=True)
class SettingMember:
    """Integer attributes of a module that count channels; ``counts`` says how many of the ids each owns, in order."""

    layer: str
    counts: tuple[tuple[str, int], ...]
    ids: Ids


Member = TensorMember | SettingMember


@dataclass(frozen=True)
class Use:
    """One application of a weight: its multiply-accumulates are the weight's size times ``positions``."""

    tensor: str
    positions: int


@dataclass(frozen=True)
class Unknown:
    """An operator without a handler that stopped channels, and where."""

    operator: str
    layer: str


@dataclass
class Trace:
    """What one forward pass taught about the channels of a module."""

    module: nn.Module
    cautious: bool = False
    """Freeze also what rests on a guess about the model's code (how sizes of splits are computed)."""
    ledger: Ledger = field(default_factory=Ledger)
    members: dict[tuple[str, int | str], Member] = field(default_factory=dict)
    uses: list[Use] = field(default_factory=list)
    unknown: list[Unknown] = field(default_factory=list)
    layers: list[str] = field(default_factory=list)
    """The path of modules that are running, innermost last."""

    def __post_init__(self) -> None:
        self.flowing: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.transposed: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.names = {id(tensor): name for name, tensor in named_tensors(self.module)}
        self.opaque: set[str] = set()

    @property
    def layer(self) -> str:
        """The innermost running module."""
        return self.layers[-1] if self.layers else ""

    def name(self, tensor: object) -> str | None:
        """The parameter or buffer that this very tensor is."""
        return self.names.get(id(tensor))

    def slots(self, tensor: object) -> Slots | None:
        """The slots that a tensor carries; a vector-like parameter brings its own."""
        if not isinstance(tensor, Tensor):
            return None
        known: Slots | None = self.flowing.get(tensor)
        if known is not None:
            return known
        name = self.name(tensor)
        wide = [axis for axis, size in enumerate(tensor.shape) if size > 1]
        if name is None or len(wide) != 1:
            return None
        ids = self.member(name, wide[0], tensor.shape[wide[0]], "out")
        return Slots(ids.reshape(tensor.shape), zero=True, constant=True)

    def put(self, tensor: object, slots: Slots | None) -> None:
        """Lets a tensor carry slots; None means that its channels are fixed."""
        if isinstance(tensor, Tensor):
            if slots is None or slots.ids.size <= 1:
                self.flowing.pop(tensor, None)
            else:
                self.flowing[tensor] = slots

    def freeze(self, slots: Slots | None, why: str) -> None:
        """Fixes the channels of a tensor."""
        if slots is not None:
            self.ledger.freeze(slots.ids, f"{self.layer or 'model'}: {why}")

    def tie(self, left: Ids, right: Ids, why: str) -> None:
        """Ties two rows of channels; the running module is named in the reason."""
        self.ledger.tie(left, right, f"{self.layer or 'model'}: {why}")

    def member(
        self, name: str, dim: int, size: int, role: Role, ids: Ids | None = None, *, weight: bool = False
    ) -> Ids:
        """The ids of one axis of a named tensor; a second use of the same tensor is tied to the first."""
        known = self.members.get((name, dim))
        if known is None:
            ids = self.ledger.fresh(size) if ids is None else ids
            self.members[name, dim] = TensorMember(name, dim, role, ids, weight)
            return ids
        if ids is not None:
            self.tie(known.ids, ids, f"{name} is used more than once")
        return known.ids

    def setting(self, counts: tuple[tuple[str, int], ...], ids: Ids) -> bool:
        """Declares attributes of the running module that count these channels; False when it has no such ones."""
        owner = self.module.get_submodule(self.layer)
        if any(getattr(owner, name, None) != count for name, count in counts):
            return False
        key = (self.layer, counts[0][0])
        known = self.members.get(key)
        if known is None:
            self.members[key] = SettingMember(self.layer, counts, ids)
        else:
            self.tie(known.ids, ids, f"{self.layer} runs more than once")
        return True

    def use(self, weight: str, positions: int) -> None:
        """Counts one application of a weight."""
        self.uses.append(Use(weight, positions))

    def stop(self, tensors: list[Any], why: str) -> None:
        """Fixes the channels of all these tensors."""
        for tensor in tensors:
            self.freeze(self.slots_without_members(tensor), why)

    def slots_without_members(self, tensor: object) -> Slots | None:
        """The slots of a flowing tensor; a parameter is remembered as one that may not be cut at all."""
        if not isinstance(tensor, Tensor):
            return None
        name = self.name(tensor) or self.transposed.get(tensor)
        if name is not None:
            self.opaque.add(name)
            return None
        slots: Slots | None = self.flowing.get(tensor)
        return slots

    def finish(self) -> None:
        """Fixes what touches a parameter that some unknown operator reads as a whole."""
        for member in self.members.values():
            if isinstance(member, TensorMember) and member.tensor in self.opaque:
                self.ledger.freeze(member.ids, f"{member.tensor} is also read by an operation that is not known")


@dataclass(frozen=True)
class Call:
    """One operator call with its arguments by name."""

    operator: str
    arguments: dict[str, Any]
    out: Any
    evaluate: Callable[..., Any]
    pointwise: bool

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def get(self, name: str, default: Any = None) -> Any:
        """An argument that only some overloads have."""
        value = self.arguments.get(name)
        return default if value is None else value

    def tensors(self) -> list[Tensor]:
        """All tensors among the arguments."""
        return [leaf for leaf in tree_leaves(self.arguments) if isinstance(leaf, Tensor)]


Handler = Callable[[Trace, Call], None]
handlers: Registry[Handler] = Registry("operator")
"""How slots flow through each operator, by its name without namespace and trailing underscore."""


class _Follower(TorchDispatchMode):
    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        values = {argument.name: value for argument, value in zip(func._schema.arguments, args)}
        values.update(kwargs or {})
        out = func(*args, **(kwargs or {}))
        name = func._schema.name.partition("::")[2].rstrip("_")
        call = Call(name, values, out, func, torch.Tag.pointwise in func.tags)
        _follow(self.trace, call)
        return out


def _follow(trace: Trace, call: Call) -> None:
    """Hands one call to its handler, or freezes what it touches."""
    if call.operator in handlers:
        handlers.get(call.operator)(trace, call)
    elif call.pointwise:
        handlers.get("pointwise")(trace, call)
    else:
        stop_at(trace, call, f"operator {call.operator} is not known")


def stop_at(trace: Trace, call: Call, why: str) -> None:
    """Freezes all that goes into a call; what comes out of it has fixed channels."""
    tensors = call.tensors()
    if any(trace.flowing.get(tensor) is not None for tensor in tensors):
        trace.unknown.append(Unknown(call.operator, trace.layer))
    trace.stop(tensors, why)
    for out in tree_leaves(call.out):
        trace.put(out, None)


def named_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """All parameters and buffers by name, each once, under its first name."""
    yield from module.named_parameters()
    yield from module.named_buffers()


@contextmanager
def _layers_followed(trace: Trace) -> Iterator[None]:
    """Keeps ``trace.layers`` up to date while modules run."""
    names = {module: name for name, module in trace.module.named_modules()}

    def enter(module: nn.Module, _: Any) -> None:
        trace.layers.append(names.get(module, type(module).__name__))

    def leave(module: nn.Module, _: Any, __: Any) -> None:
        trace.layers.pop()

    before, after = register_module_forward_pre_hook(enter), register_module_forward_hook(leave)
    try:
        yield
    finally:
        before.remove()
        after.remove()


def follow(trace: Trace, example: Tensor) -> Trace:
    """Runs the module once on an example and fills the trace; the task's outputs are frozen."""
    try:
        with evaluating(trace.module), _layers_followed(trace), _Follower(trace):
            out = trace.module(example)
    except EdgecrError:
        raise
    except Exception as error:
        where = f" in {trace.layer}" if trace.layer else ""
        raise UnsupportedModel(
            f"The model fails{where} on an input of shape {tuple(example.shape)}: {error}"
        ) from error
    trace.stop(list(output_tensors(out)), "output of the model")
    trace.finish()
    return trace
