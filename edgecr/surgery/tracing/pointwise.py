"""Slot propagation through elementwise operators, reductions and pooling."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from edgecr.surgery.tracing.dispatch import Call, handlers, stop_at
from edgecr.surgery.tracing.shapes import combine
from edgecr.surgery.tracing.trace import Trace

_PROBES = (-1.7, -0.3, 0.6, 2.1)
"""Stand-ins for values that may be anything, to see whether a result is zero all the same."""


@handlers.register("pointwise", "hardswish", "_prelu_kernel", "alias", "detach", "_to_copy", "lift_fresh")
def pointwise(trace: Trace, call: Call) -> None:
    """Channels that meet element by element are tied (residual additions, gates, scales)."""
    slots = combine(trace, call, call.tensors, call.operator)
    trace.put(call.out, slots and replace(slots, zero=_stays_zero(trace, call)))


def _stays_zero(trace: Trace, call: Call) -> bool:
    """Returns True if the result is zero wherever the masked operands are, tested on a few numbers."""
    zeros = {id(tensor): (slots := trace.slots(tensor)) is not None and slots.zero for tensor in call.tensors}
    rank = max(tensor.dim() for tensor in call.tensors)

    def described(value: Any) -> Any:
        return (value.dtype, zeros[id(value)]) if isinstance(value, Tensor) else value

    def stand_in(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        numbers = [0.0] * len(_PROBES) if zeros[id(value)] else _PROBES
        return torch.tensor(numbers).to(value.dtype).reshape(-1, *(1,) * rank)

    key = (call.evaluate, str(tree_map(described, call.arguments)))
    if key not in trace.tried:
        trace.tried[key] = not call.evaluate(**tree_map(stand_in, call.arguments)).any()
    return trace.tried[key]


@handlers.register("zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "bernoulli")
def like(trace: Trace, call: Call) -> None:
    """New values in the shape of others; a removed channel does not exist in them either."""
    slots = trace.slots(call["self"])
    trace.put(call.out, slots and replace(slots, zero=call.operator == "zeros_like"))


@handlers.register("native_dropout")
def dropout(trace: Trace, call: Call) -> None:
    """Zeros stay zeros."""
    trace.put(call.out[0], trace.slots(call["input"]))


@handlers.register("mean", "amax", "amin", "var", "std", "prod", "sum", "linalg_vector_norm")
def reduction(trace: Trace, call: Call) -> None:
    """A statistic over other axes leaves the channels; over the channels only sums of zeros are harmless."""
    slots = trace.slots(call["self"])
    if slots is None:
        return
    axes = _reduced(call, slots.ids.ndim)
    inside = [axis in axes for axis in slots.varying()]
    if not any(inside):
        ids = slots.ids if call.out.dim() == slots.ids.ndim else slots.ids.squeeze(axes)
        trace.put(call.out, replace(slots, ids=ids))
    elif all(inside) and slots.zero and _adds_up(call):
        trace.put(call.out, None)
    else:
        stop_at(trace, call, f"{call.operator} over the channels")


def _adds_up(call: Call) -> bool:
    """Returns True if elements that are zero do not change the result."""
    return call.operator == "sum" or (call.operator == "linalg_vector_norm" and call.get("ord", 2) > 0)


def _reduced(call: Call, rank: int) -> tuple[int, ...]:
    dim = call.get("dim", [])
    axes = [dim] if isinstance(dim, int) else dim
    return tuple(axis % rank for axis in axes or range(rank))


@handlers.register(
    "max_pool1d", "max_pool2d", "max_pool2d_with_indices", "max_pool3d_with_indices",
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "_adaptive_avg_pool2d",
    "_adaptive_avg_pool3d", "adaptive_max_pool2d", "upsample_nearest1d", "upsample_nearest2d",
    "upsample_nearest3d", "_upsample_nearest_exact2d", "upsample_linear1d", "upsample_bilinear2d",
    "upsample_bicubic2d", "upsample_trilinear3d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa",
    "reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d",
)  # fmt: skip
def spatial(trace: Trace, call: Call) -> None:
    """The last one, two or three axes are pooled or resized; channels lie before them."""
    source = call["input"] if "input" in call.arguments else call["self"]
    slots = trace.slots(source)
    if slots is None:
        return
    resized = next(int(letter) for letter in call.operator if letter in "123")
    if any(axis >= slots.ids.ndim - resized for axis in slots.varying()):
        stop_at(trace, call, f"{call.operator} over the channels")
    else:
        trace.put(call.first_out(), slots)


@handlers.register("as_strided")
def restrided(trace: Trace, call: Call) -> None:
    """Pooling to one pixel only restates the strides; anything else is not followed."""
    slots = trace.slots(call["self"])
    same = call.out.shape == call["self"].shape
    if slots is not None and same and call.out.numel() == slots.ids.size and len(slots.varying()) == 1:
        trace.put(call.out, slots)
    else:
        stop_at(trace, call, "strides are changed by hand")


@handlers.register("_softmax", "_log_softmax")
def softmax(trace: Trace, call: Call) -> None:
    """Over the channels it mixes them; over another axis it leaves them, though not at zero."""
    slots = trace.slots(call["self"])
    if slots is not None and slots.ids.shape[call["dim"]] == 1:
        trace.put(call.out, replace(slots, zero=False))
    else:
        stop_at(trace, call, f"{call.operator} over the channels")


@handlers.register(
    "bmm", "baddbmm", "_native_multi_head_attention", "_scaled_dot_product_attention_math",
    "_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
)  # fmt: skip
def attention(trace: Trace, call: Call) -> None:
    """Heads have fixed sizes, and attention mixes all channels of one."""
    stop_at(trace, call, "attention has heads of fixed size")
