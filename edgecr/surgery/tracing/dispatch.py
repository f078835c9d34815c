"""One forward pass under operator dispatch that follows channel slots from layer to layer.

An operator without a handler freezes the slots it touches: they are left unpruned; the result is never incorrect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from edgecr.core.registry import Registry
from edgecr.surgery.tracing.running import Mode, answers, in_evaluation, layers_followed
from edgecr.surgery.tracing.slots import Slots
from edgecr.surgery.tracing.trace import Trace, Unknown


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
        """An argument that only some overloads have, or that may be None."""
        value = self.arguments.get(name)
        return default if value is None else value

    @cached_property
    def tensors(self) -> list[Tensor]:
        """All tensors among the arguments."""
        return [leaf for leaf in tree_leaves(self.arguments) if isinstance(leaf, Tensor)]

    def first_out(self) -> Tensor:
        """The output, or the first of several."""
        out: Tensor = self.out[0] if isinstance(self.out, (tuple, list)) else self.out
        return out


Handler = Callable[[Trace, Call], None]
handlers: Registry[Handler] = Registry("operator")
"""Handlers that propagate slots through operators, by name without namespace and trailing underscore."""


class _Follower(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, trace: Trace) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace = trace

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        values = {argument.name: value for argument, value in zip(func._schema.arguments, args)}
        values.update(kwargs or {})
        out = _evaluated(func, args, kwargs or {})
        name = func._schema.name.partition("::")[2].rstrip("_")
        _follow(self.trace, Call(name, values, out, func, torch.Tag.pointwise in func.tags))
        return out


def _evaluated(func: Any, args: Any, kwargs: Any) -> Any:
    """The operator's result; batch norm without values is only a shape (the general way is slow)."""
    if func is torch.ops.aten.native_batch_norm.default and args[0].is_meta:
        return torch.empty_like(args[0]), args[0].new_empty(0), args[0].new_empty(0)
    return func(*args, **kwargs)


_LAYERS = ("convolution", "linear", "addmm", "mm", "t")
"""Operators whose handlers know what the axes of a weight are."""


def _follow(trace: Trace, call: Call) -> None:
    """Hands one call to its handler, or freezes what it touches."""
    trace.see(call.tensors)
    if call.operator not in _LAYERS:
        trace.read_as_a_whole(call.tensors)
    if call.operator in handlers:
        handlers.get(call.operator)(trace, call)
    elif call.pointwise:
        handlers.get("pointwise")(trace, call)
    else:
        if any(trace.carries(tensor) for tensor in call.tensors):
            trace.unknown.append(Unknown(call.operator, trace.layer))
        stop_at(trace, call, f"operator {call.operator} is not supported")


def stop_at(trace: Trace, call: Call, why: str) -> None:
    """Freezes all that goes into a call; what comes out of it has fixed channels."""
    trace.stop(call.tensors, why)
    for out in tree_leaves(call.out):
        trace.put(out, None)


def carried(trace: Trace, call: Call, axis: int, why: str) -> Slots | None:
    """The slots of a call's input if they lie on this axis only; otherwise the call is stopped."""
    source = call["input"] if "input" in call.arguments else call["self"]
    slots = trace.slots(source)
    if slots is not None and slots.along(axis % slots.ids.ndim) is not None:
        return slots
    stop_at(trace, call, why)
    return None


def follow(trace: Trace, example: Tensor, mode: Mode = in_evaluation) -> None:
    """Runs the module once on an example and adds to the trace; the outputs are frozen."""
    with layers_followed(trace.module, trace.layers), _Follower(trace):
        outputs = answers(trace.module, example, mode, trace.state)
    trace.layers.clear()
    trace.stop(outputs, "output of the model")
