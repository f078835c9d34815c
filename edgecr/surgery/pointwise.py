"""How slots flow through elementwise operators, reductions and pooling."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from edgecr.surgery.shapes import combine
from edgecr.surgery.slots import Slots
from edgecr.surgery.trace import Call, Trace, handlers, stop_at

_PROBES = (-1.7, -0.3, 0.6, 2.1)
"""Stand-ins for values that are not zero, to see whether a result is."""


@handlers.register("pointwise", "hardswish", "_prelu_kernel", "alias", "detach", "_to_copy", "lift_fresh")
def pointwise(trace: Trace, call: Call) -> None:
    """Channels that meet element by element are tied (residual additions, gates, scales)."""
    operands = call.tensors()
    joined = combine(trace, call, operands, call.operator)
    if joined is not None:
        joined = Slots(joined.ids, _stays_zero(trace, call, operands), joined.constant)
    trace.put(call.out, joined)


def _stays_zero(trace: Trace, call: Call, operands: list[Tensor]) -> bool:
    """Whether the result is zero where all masked operands are."""
    known = {id(tensor): trace.slots(tensor) for tensor in operands}
    fixed = [tensor.shape for tensor in operands if known[id(tensor)] is None]
    rank = 1 + max(tensor.dim() for tensor in operands)
    shape = torch.broadcast_shapes((len(_PROBES),) + (1,) * (rank - 1), *fixed)

    def stand_in(value: Any) -> Any:
        if not isinstance(value, Tensor) or known.get(id(value), True) is None:
            return value
        slots = known[id(value)]
        if slots is not None and slots.zero:
            return value.new_zeros(shape)
        probes = torch.tensor(_PROBES, device=value.device).reshape((-1,) + (1,) * (rank - 1))
        return probes.to(value.dtype).expand(shape).clone()

    result = call.evaluate(**tree_map(stand_in, call.arguments))
    return bool((result == 0).all())


@handlers.register("mean", "amax", "amin", "var", "std", "var_mean", "prod", "logsumexp")
def reduction(trace: Trace, call: Call) -> None:
    """Over other axes than the channels a statistic of zeros stays zero; over the channels they are frozen."""
    slots = trace.slots(call["self"])
    if slots is None:
        return
    axes = _reduced(call, slots.ids.ndim)
    if any(slots.ids.shape[axis] > 1 for axis in axes) or isinstance(call.out, tuple):
        stop_at(trace, call, f"{call.operator} over the channels")
    else:
        _put_reduced(trace, call, slots, axes)


@handlers.register("sum", "linalg_vector_norm", "norm")
def total(trace: Trace, call: Call) -> None:
    """A sum over the channels does not see those that are zero."""
    slots = trace.slots(call["self"])
    if slots is None:
        return
    axes = _reduced(call, slots.ids.ndim)
    order = call.get("ord", call.get("p", 2))
    inside = [axis in axes for axis in slots.varying()]
    if not any(inside):
        _put_reduced(trace, call, slots, axes)
    elif all(inside) and slots.zero and isinstance(order, (int, float)) and order > 0:
        trace.put(call.out, None)
    else:
        stop_at(trace, call, f"{call.operator} over channels that are not exactly zero when removed")


def _reduced(call: Call, rank: int) -> tuple[int, ...]:
    dim = call.get("dim")
    if dim is None or dim == []:
        return tuple(range(rank))
    return tuple(axis % rank for axis in ([dim] if isinstance(dim, int) else dim))


def _put_reduced(trace: Trace, call: Call, slots: Slots, axes: tuple[int, ...]) -> None:
    ids = slots.ids if call.out.dim() == slots.ids.ndim else slots.ids.squeeze(axes)
    zero = slots.zero and call.operator != "logsumexp"
    trace.put(call.out, Slots(ids, zero, slots.constant))


@handlers.register(
    "max_pool2d_with_indices", "max_pool3d_with_indices", "max_pool2d", "max_pool1d", "avg_pool1d", "avg_pool2d",
    "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d",
    "adaptive_max_pool2d", "upsample_nearest1d", "upsample_nearest2d", "_upsample_nearest_exact2d",
    "upsample_bilinear2d", "upsample_bicubic2d", "upsample_linear1d", "upsample_trilinear3d", "upsample_nearest3d",
    "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", "reflection_pad1d", "reflection_pad2d",
    "replication_pad1d", "replication_pad2d", "as_strided",
)  # fmt: skip
def spatial(trace: Trace, call: Call) -> None:
    """Each channel is treated alone, and its place does not change."""
    source = call["input"] if "input" in call.arguments else call["self"]
    out = call.out[0] if isinstance(call.out, tuple) else call.out
    slots = trace.slots(source)
    if slots is None:
        return
    kept = out.dim() == slots.ids.ndim and all(out.shape[axis] == source.shape[axis] for axis in slots.varying())
    if not kept or (call.operator == "as_strided" and source.numel() != slots.ids.size):
        stop_at(trace, call, f"{call.operator} changes the channels")
    else:
        trace.put(out, slots)


@handlers.register("flip", "roll")
def moved(trace: Trace, call: Call) -> None:
    """Values move along other axes than the channels."""
    slots = trace.slots(call["self"])
    if slots is None:
        return
    axes = [axis % slots.ids.ndim for axis in call["dims"]]
    if not axes or any(slots.ids.shape[axis] > 1 for axis in axes):
        stop_at(trace, call, f"{call.operator} moves channels")
    else:
        trace.put(call.out, slots)


@handlers.register("_softmax", "_log_softmax", "softmax")
def softmax(trace: Trace, call: Call) -> None:
    """Over the channels it mixes them; over another axis it leaves them, though not at zero."""
    slots = trace.slots(call["self"])
    if slots is None:
        return
    if slots.ids.shape[call["dim"] % slots.ids.ndim] > 1:
        stop_at(trace, call, "softmax over the channels")
    else:
        trace.put(call.out, Slots(slots.ids, zero=False))


@handlers.register("empty_like", "zeros_like", "ones_like", "new_zeros", "new_ones", "new_empty", "rand_like", "randn_like")
def made(trace: Trace, call: Call) -> None:
    """A new tensor of a size taken from another one; its channels are fixed."""
    trace.put(call.out, None)
