"""Slot propagation through layers with weights: convolutions, linear layers and normalisations."""

from __future__ import annotations

import math
from dataclasses import replace

from torch import Tensor

from edgecr.surgery.tracing.dispatch import Call, carried, handlers, stop_at
from edgecr.surgery.tracing.slots import Ids, Slots
from edgecr.surgery.tracing.trace import Trace


@handlers.register("convolution")
def convolution(trace: Trace, call: Call) -> None:
    """A convolution reads the channels of its input and makes new ones."""
    weight, bias, turned = trace.name(call["weight"]), trace.name(call["bias"]), call["transposed"]
    positions = math.prod((call["input"] if turned else call.out).shape[2:])
    if weight is None or (call["bias"] is not None and bias is None):
        trace.use("", positions * call["weight"].numel())
        return stop_at(trace, call, "the weight of a convolution is computed, not a parameter")
    trace.use(weight, positions)
    if turned and call["groups"] > 1:
        return stop_at(trace, call, "grouped transposed convolution")
    if call["groups"] > 1:
        out = _grouped(trace, call, weight)
    else:
        made, read = (1, 0) if turned else (0, 1)
        _consume(trace, call["input"], 1, weight, read)
        out = trace.member(weight, made, call["weight"].shape[made], "out", weight=True)
    _produce(trace, call.out, 1, out, bias)
    return None


def _readable(trace: Trace, tensor: Tensor, axis: int) -> tuple[Ids | None, bool]:
    """The slots along an axis that a layer reads (None when they are fixed), and whether a mask closes the reader."""
    slots = trace.slots(tensor)
    if slots is None:
        return None, False
    ids = slots.along(axis)
    if ids is None:
        trace.freeze(slots.ids, "a layer reads another axis than the channels")
    return ids, not slots.zero


def _consume(trace: Trace, tensor: Tensor, axis: int, weight: str, dim: int) -> None:
    """An axis of a weight reads the channels of a tensor."""
    ids, closes = _readable(trace, tensor, axis)
    if ids is None:
        ids = trace.fixed(tensor.shape[axis], "reads channels that are fixed")
    trace.member(weight, dim, len(ids), "in", ids, closes=closes)


def _produce(trace: Trace, out: Tensor, axis: int, ids: Ids, bias: str | None) -> None:
    """The channels of an output come from these slots, and from the bias."""
    if bias is not None:
        trace.member(bias, 0, len(ids), "out", ids)
    trace.put(out, Slots(ids.reshape([-1 if other == axis else 1 for other in range(out.dim())])))


def _grouped(trace: Trace, call: Call, weight: str) -> Ids:
    """Many narrow groups go one by one; few wide ones stay, and lose equal positions."""
    groups, inside = call["groups"], call["weight"].shape[1]
    read, closes = _readable(trace, call["input"], 1)
    out = trace.member(weight, 0, call.out.shape[1], "out", weight=True)
    read = None if read is None else read.reshape(groups, -1)
    if groups >= inside:
        _tie_whole_groups(trace, out.reshape(groups, -1), read)
    else:
        trace.tie_along(out.reshape(groups, -1), 0, "equal positions of all groups")
        if read is not None:
            trace.tie_along(read, 0, "equal positions of all groups")
        row = trace.fixed(inside, "reads channels that are fixed") if read is None else read[0]
        trace.member(weight, 1, inside, "in", row, closes=closes)
    return out


def _tie_whole_groups(trace: Trace, out: Ids, read: Ids | None) -> None:
    """Depthwise convolutions are the case of one channel a group."""
    if read is None or not _groups_follow(trace, out[:, 0]):
        trace.freeze(out, "its groups cannot be removed")
        trace.freeze(read, "its groups cannot be removed")
        return
    trace.tie_along(out, 1, "channels of one group")
    trace.tie(out[:, :1].repeat(read.shape[1], 1), read, "grouped convolution")


def _groups_follow(trace: Trace, ids: Ids) -> bool:
    """Declares what says how many groups a convolution has; a module that says nothing takes them from a shape."""
    owner = trace.module.get_submodule(trace.layer)
    names = ("groups",) if hasattr(owner, "groups") else ("channels", "num_channels", "in_channels", "out_channels")
    found = [name for name in names if hasattr(owner, name)]
    return all(trace.setting(((name, len(ids)),), ids) for name in found)


@handlers.register("addmm")
def addmm(trace: Trace, call: Call) -> None:
    """bias + input @ weight.t()."""
    weight, bias = trace.transposed(call["mat2"]), trace.name(call["self"])
    plain = call.get("beta", 1) == 1 and call.get("alpha", 1) == 1
    if weight is None or bias is None or call["self"].dim() != 1 or not plain:
        stop_at(trace, call, "matrix product of two computed tensors")
    else:
        _linear(trace, call["mat1"], weight, bias, call.out)


@handlers.register("mm")
def mm(trace: Trace, call: Call) -> None:
    """input @ weight.t()."""
    weight = trace.transposed(call["mat2"])
    if weight is None:
        stop_at(trace, call, "matrix product of two computed tensors")
    else:
        _linear(trace, call["self"], weight, None, call.out)


@handlers.register("linear")
def linear(trace: Trace, call: Call) -> None:
    """A linear layer that was not taken apart."""
    weight, bias = trace.name(call["weight"]), trace.name(call.get("bias"))
    if weight is None or (call.get("bias") is not None and bias is None):
        stop_at(trace, call, "the weight of a linear layer is computed, not a parameter")
    else:
        _linear(trace, call["input"], weight, bias, call.out)


def _linear(trace: Trace, rows: Tensor, weight: str, bias: str | None, out: Tensor) -> None:
    """A linear layer reads the last axis and makes a new one."""
    trace.use(weight, math.prod(out.shape[:-1]))
    _consume(trace, rows, rows.dim() - 1, weight, 1)
    ids = trace.member(weight, 0, out.shape[-1], "out", weight=True)
    _produce(trace, out, out.dim() - 1, ids, bias)


@handlers.register(
    "native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm", "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training", "_batch_norm_no_update", "_batch_norm_with_update",
)  # fmt: skip
def batch_norm(trace: Trace, call: Call) -> None:
    """Each channel is scaled by its own parameters and statistics."""
    vectors = [call.get(key) for key in ("weight", "bias", "running_mean", "running_var")]
    slots = _scaled(trace, call, [vector for vector in vectors if vector is not None])
    if slots is not None:
        trace.put(call.first_out(), replace(slots, zero=slots.zero or call.get("weight") is not None))


def _scaled(trace: Trace, call: Call, vectors: list[Tensor]) -> Slots | None:
    """The slots of a normalisation's input after its vectors joined them; None when they cannot."""
    names = [name for name in map(trace.name, vectors) if name is not None]
    if len(names) < len(vectors):
        stop_at(trace, call, "a normalisation is scaled by computed vectors")
        return None
    slots = carried(trace, call, 1, "a normalisation of another axis than the channels")
    if slots is not None:
        for name in names:
            trace.member(name, 0, slots.ids.size, "out", slots.ids.ravel())
    return slots


@handlers.register("native_group_norm")
def group_norm(trace: Trace, call: Call) -> None:
    """Statistics are taken per group, so channels go in whole groups."""
    slots = _scaled(trace, call, [call[key] for key in ("weight", "bias") if call[key] is not None])
    if slots is None:
        return None
    rows = slots.ids.reshape(call["group"], -1)
    if not trace.setting((("num_groups", len(rows)),), rows[:, 0]):
        return stop_at(trace, call, "the number of groups of a group norm cannot be changed")
    trace.tie_along(rows, 1, "one group of a group norm")
    trace.put(call.first_out(), replace(slots, zero=slots.zero or call["weight"] is not None))
    return None


@handlers.register("native_layer_norm")
def layer_norm(trace: Trace, call: Call) -> None:
    """Statistics over the channels change when one goes, so they all stay."""
    slots, first = trace.slots(call["input"]), call["input"].dim() - len(call["normalized_shape"])
    if slots is None or any(axis >= first for axis in slots.varying()):
        stop_at(trace, call, "layer norm takes statistics over the channels")
    else:
        trace.put(call.first_out(), replace(slots, zero=call.get("bias") is None and slots.zero))
