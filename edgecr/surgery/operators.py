"""How slots flow through layers with weights: convolutions, linear layers and normalisations."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from edgecr.surgery.slots import Ids, Slots
from edgecr.surgery.trace import Call, Trace, handlers, stop_at


@handlers.register("convolution")
def convolution(trace: Trace, call: Call) -> None:
    """A convolution reads the channels of its input and makes new ones."""
    weight = trace.name(call["weight"])
    bias = trace.name(call["bias"])
    if weight is None or (call["bias"] is not None and bias is None):
        return stop_at(trace, call, "the weight of a convolution is computed, not a parameter")
    positions = call["input"] if call["transposed"] else call.out
    trace.use(weight, math.prod(positions.shape[2:]))
    if call["groups"] > 1:
        out = _grouped(trace, call, weight)
    else:
        made, read = (1, 0) if call["transposed"] else (0, 1)
        consume(trace, call["input"], 1, weight, read)
        out = trace.member(weight, made, call["weight"].shape[made], "out", weight=True)
    produce(trace, call.out, 1, out, bias)
    return None


def consume(trace: Trace, tensor: Tensor, axis: int, weight: str, dim: int) -> None:
    """A weight's axis reads the channels of a tensor."""
    ids = readable(trace, tensor, axis)
    if ids is None:
        ids = trace.ledger.fresh(tensor.shape[axis])
        trace.ledger.freeze(ids, f"{trace.layer}: reads channels that are fixed")
    trace.member(weight, dim, len(ids), "in", ids)


def readable(trace: Trace, tensor: Tensor, axis: int) -> Ids | None:
    """The slots along an axis that a layer reads; None (and frozen) when none of them may be removed."""
    slots = trace.slots(tensor)
    if slots is None:
        return None
    ids = slots.along(axis)
    if ids is None:
        trace.freeze(slots, "a layer reads another axis than the channels")
    elif not slots.zero:
        trace.freeze(slots, "a removed channel would leave a constant here (its activation is not 0 at 0)")
        return None
    return ids


def produce(trace: Trace, out: Tensor, axis: int, ids: Ids, bias: str | None) -> None:
    """The channels of an output come from these slots, and from the bias."""
    if bias is not None:
        trace.member(bias, 0, len(ids), "out", ids)
    shape = [1] * out.dim()
    shape[axis] = len(ids)
    trace.put(out, Slots(ids.reshape(shape)))


def _grouped(trace: Trace, call: Call, weight: str) -> Ids:
    """Many narrow groups go one by one; few wide ones stay, and lose equal positions."""
    groups, made = call["groups"], call.out.shape[1]
    read = readable(trace, call["input"], 1)
    if call["transposed"]:
        trace.freeze(trace.slots(call["input"]), "grouped transposed convolution")
        fixed = trace.ledger.fresh(made)
        trace.ledger.freeze(fixed, f"{trace.layer}: grouped transposed convolution")
        return fixed
    out = trace.member(weight, 0, made, "out", weight=True)
    if groups >= call["input"].shape[1] // groups:
        _tie_whole_groups(trace, out.reshape(groups, -1), read)
    else:
        _tie_positions(trace, weight, call["weight"].shape[1], out.reshape(groups, -1), read)
    return out


def _tie_whole_groups(trace: Trace, out: Ids, read: Ids | None) -> None:
    groups = len(out)
    trace.ledger.tie_along(out, 1, f"{trace.layer}: channels of one group")
    if read is None or not trace.setting((("groups", groups),), out[:, 0]):
        trace.ledger.freeze(out, f"{trace.layer}: its groups cannot be changed")
        if read is not None:
            trace.ledger.freeze(read, f"{trace.layer}: its groups cannot be changed")
        return
    rows = read.reshape(groups, -1)
    trace.tie(np.broadcast_to(out[:, :1], rows.shape), rows, "grouped convolution")


def _tie_positions(trace: Trace, weight: str, size: int, out: Ids, read: Ids | None) -> None:
    why = f"{trace.layer}: equal positions of all groups"
    trace.ledger.tie_along(out, 0, why)
    if read is None:
        trace.ledger.freeze(trace.member(weight, 1, size, "in"), f"{trace.layer}: reads channels that are fixed")
    else:
        rows = read.reshape(len(out), -1)
        trace.ledger.tie_along(rows, 0, why)
        trace.member(weight, 1, size, "in", rows[0])


@handlers.register("t")
def transpose_matrix(trace: Trace, call: Call) -> None:
    """Linear layers transpose their weight first; the name is kept for the product."""
    name = trace.name(call["self"])
    if name is not None and call["self"].dim() == 2:
        trace.transposed[call.out] = name
    else:
        handlers.get("transpose")(trace, call)


@handlers.register("addmm")
def addmm(trace: Trace, call: Call) -> None:
    """bias + input @ weight.t()."""
    plain = call.get("beta", 1) == 1 and call.get("alpha", 1) == 1
    _matrix_product(trace, call, call["mat1"], call["mat2"], call["self"] if plain else None, biased=True)


@handlers.register("mm")
def mm(trace: Trace, call: Call) -> None:
    """input @ weight.t()."""
    _matrix_product(trace, call, call["self"], call["mat2"], None, biased=False)


def _matrix_product(
    trace: Trace, call: Call, rows: Tensor, matrix: Tensor, bias: Tensor | None, *, biased: bool
) -> None:
    weight, bias_name = trace.transposed.get(matrix), trace.name(bias)
    if weight is None or (biased and bias_name is None):
        stop_at(trace, call, "matrix product of two computed tensors")
    else:
        _linear(trace, rows, weight, bias_name, call.out)


@handlers.register("linear")
def linear(trace: Trace, call: Call) -> None:
    """A linear layer reads the last axis and makes a new one."""
    weight, bias = trace.name(call["weight"]), trace.name(call.get("bias"))
    if weight is None or (call.get("bias") is not None and bias is None):
        stop_at(trace, call, "the weight of a linear layer is computed, not a parameter")
    else:
        _linear(trace, call["input"], weight, bias, call.out)


def _linear(trace: Trace, rows: Tensor, weight: str, bias: str | None, out: Tensor) -> None:
    trace.use(weight, math.prod(out.shape[:-1]))
    consume(trace, rows, rows.dim() - 1, weight, 1)
    ids = trace.member(weight, 0, out.shape[-1], "out", weight=True)
    produce(trace, out, out.dim() - 1, ids, bias)


@handlers.register(
    "native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm", "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training", "_batch_norm_no_update", "_batch_norm_with_update", "batch_norm",
)  # fmt: skip
def batch_norm(trace: Trace, call: Call) -> None:
    """Each channel is scaled by its own parameters and statistics."""
    source = call["input"]
    slots, out = trace.slots(source), call.out[0] if isinstance(call.out, tuple) else call.out
    ids = None if slots is None else slots.along(1)
    vectors = [call.get(key) for key in ("weight", "bias", "running_mean", "running_var")]
    names = [trace.name(vector) for vector in vectors if vector is not None]
    if slots is None or ids is None or None in names:
        stop_at(trace, call, "batch norm over an axis that does not carry the channels")
        return
    for name in names:
        if name is not None:
            trace.member(name, 0, len(ids), "out", ids)
    trace.put(out, Slots(slots.ids, zero=slots.zero or call.get("weight") is not None))


@handlers.register("native_layer_norm")
def layer_norm(trace: Trace, call: Call) -> None:
    """Statistics over the channels change when one goes, so they all stay."""
    slots, normalised = trace.slots(call["input"]), len(call["normalized_shape"])
    if slots is not None and any(axis >= slots.ids.ndim - normalised for axis in slots.varying()):
        trace.stop(call.tensors(), "layer norm takes statistics over the channels")
        trace.put(call.out[0], None)
    elif slots is not None:
        trace.put(call.out[0], Slots(slots.ids, zero=call.get("bias") is None and slots.zero))


@handlers.register("native_group_norm")
def group_norm(trace: Trace, call: Call) -> None:
    """Statistics are taken per group, so channels go in whole groups."""
    slots, groups = trace.slots(call["input"]), call["group"]
    ids = None if slots is None else slots.along(1)
    names = [trace.name(call[key]) for key in ("weight", "bias") if call[key] is not None]
    rows = None if ids is None else ids.reshape(groups, -1)
    if slots is None or rows is None or None in names or not trace.setting((("num_groups", groups),), rows[:, 0]):
        stop_at(trace, call, "group norm whose groups cannot be changed")
        return
    trace.ledger.tie_along(rows, 1, f"{trace.layer}: one group of a group norm")
    for name in names:
        if name is not None:
            trace.member(name, 0, rows.size, "out", rows.ravel())
    trace.put(call.out[0], Slots(slots.ids, zero=slots.zero or bool(names)))
