"""How slots flow through operators that only move, cut, join or repeat values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from edgecr.surgery.slots import Ids, Slots
from edgecr.surgery.trace import Call, Trace, handlers, stop_at


def _same(slots: Slots, ids: Ids) -> Slots:
    """Other ids with the same properties."""
    return Slots(ids, slots.zero, slots.constant)


@handlers.register("view", "_unsafe_view", "reshape", "unsqueeze", "squeeze", "flatten", "_reshape_alias", "unflatten")
def view(trace: Trace, call: Call) -> None:
    """The same values in order under another shape; an axis that is split keeps its outer part."""
    source = call["self"]
    slots = trace.slots(source)
    if slots is None:
        return
    ids, split = _reshaped(trace, slots.ids, tuple(source.shape), tuple(call.out.shape))
    if split and trace.cautious:
        trace.freeze(slots, "channels are split by a view, perhaps into fixed sizes")
        trace.put(call.out, None)
    else:
        trace.put(call.out, _same(slots, ids))


def _reshaped(trace: Trace, ids: Ids, old: tuple[int, ...], new: tuple[int, ...]) -> tuple[Ids, bool]:
    """Ids under a new shape, and whether a channel axis was split into several."""
    shape, sizes, split = [], [], False
    for before, after in _blocks(old, new):
        part = ids.shape[before.start : before.stop]
        varies = math.prod(part) > 1
        sizes += [old[axis] if varies else 1 for axis in before]
        shape += [new[axis] if varies else 1 for axis in after]
        split |= varies and _wide(new, after) > sum(size > 1 for size in part)
    result = np.broadcast_to(ids, sizes).reshape(shape)
    return _pressed(_regular(trace, result) if split else result), split


def _wide(shape: tuple[int, ...], axes: range) -> int:
    return sum(shape[axis] > 1 for axis in axes)


def _regular(trace: Trace, ids: Ids) -> Ids:
    """Ties a split axis over its outer parts, so that only the innermost one shrinks."""
    for axis in [axis for axis, size in enumerate(ids.shape) if size > 1][:-1]:
        trace.ledger.tie_along(ids, axis, f"{trace.layer or 'model'}: equal positions after a split of the channels")
    return ids


def _pressed(ids: Ids) -> Ids:
    """Reduces axes along which the ids are in fact constant to size 1."""
    for axis, size in enumerate(ids.shape):
        first = ids.take([0], axis)
        if size > 1 and (ids == first).all():
            ids = first
    return ids


def _blocks(old: tuple[int, ...], new: tuple[int, ...]) -> list[tuple[range, range]]:
    """The smallest runs of old and new axes that hold the same number of elements."""
    blocks, i, j = [], 0, 0
    while i < len(old) or j < len(new):
        start, i, j = (i, j), min(i + 1, len(old)), min(j + 1, len(new))
        one, other = math.prod(old[start[0] : i]), math.prod(new[start[1] : j])
        while one != other:
            if one < other:
                one, i = one * old[i], i + 1
            else:
                other, j = other * new[j], j + 1
        blocks.append((range(start[0], i), range(start[1], j)))
    return blocks


@handlers.register("permute", "transpose", "swapaxes", "movedim")
def permute(trace: Trace, call: Call) -> None:
    """Axes change places."""
    slots = trace.slots(call["self"])
    if slots is None:
        return
    rank = slots.ids.ndim
    if "dims" in call.arguments:
        order = [axis % rank for axis in call["dims"]]
    else:
        order = list(range(rank))
        one, other = call.get("dim0", -2) % rank, call.get("dim1", -1) % rank
        order[one], order[other] = order[other], order[one]
    trace.put(call.out, _same(slots, slots.ids.transpose(order)))


@handlers.register("expand", "expand_as", "broadcast_to")
def expand(trace: Trace, call: Call) -> None:
    """Axes of size one repeat; channels never do, as they are wider."""
    slots = trace.slots(call["self"])
    if slots is not None:
        trace.put(call.out, _same(slots, lifted(slots.ids, call.out.dim())))


def lifted(ids: Ids, rank: int) -> Ids:
    """Ids with leading axes of size one, as broadcasting adds them."""
    return ids.reshape((1,) * (rank - ids.ndim) + ids.shape)


@handlers.register("cat", "concatenate", "concat")
def cat(trace: Trace, call: Call) -> None:
    """Along the channels the slots follow each other; along another axis the parts are tied."""
    parts: Sequence[Tensor] = [part for part in call["tensors"] if part.dim() > 1 or part.numel() > 0]
    known = [trace.slots(part) for part in parts]
    tracked = [slots for slots in known if slots is not None]
    if not tracked:
        return
    axis = call.get("dim", 0) % call.out.dim()
    if {other for slots in tracked for other in slots.varying()} == {axis}:
        ids = [_part_ids(trace, part, slots, axis) for part, slots in zip(parts, known)]
        zero = all(slots.zero for slots in tracked)
        trace.put(call.out, Slots(np.concatenate(ids, axis), zero, all(s is not None and s.constant for s in known)))
    elif any(axis in slots.varying() for slots in tracked):
        stop_at(trace, call, "concatenation of tensors whose channels lie on different axes")
    else:
        joined = combine(trace, call, list(parts), "concatenated along another axis")
        zero = all(slots is not None and slots.zero for slots in known)
        trace.put(call.out, joined and Slots(joined.ids, zero, joined.constant))


def _part_ids(trace: Trace, part: Tensor, slots: Slots | None, axis: int) -> Ids:
    """The ids of one part of a concatenation; channels without slots get fixed ones."""
    if slots is not None:
        return slots.ids
    ids = trace.ledger.fresh(part.shape[axis])
    trace.ledger.freeze(ids, f"{trace.layer or 'model'}: concatenated with channels that are fixed")
    return ids.reshape([-1 if other == axis else 1 for other in range(part.dim())])


@handlers.register("stack")
def stack(trace: Trace, call: Call) -> None:
    """A new axis; the channels of all parts are tied."""
    axis = call.get("dim", 0) % call.out.dim()
    views = {id(part): slots for part in call["tensors"] if (slots := trace.slots(part)) is not None}
    if len(views) < len({id(part) for part in call["tensors"]}) or len({s.ids.shape for s in views.values()}) != 1:
        if views:
            stop_at(trace, call, "stack of tensors whose channels differ")
        return
    first, *others = views.values()
    for other in others:
        trace.tie(first.ids, other.ids, "stacked")
    zero = all(slots.zero for slots in views.values())
    trace.put(call.out, Slots(np.expand_dims(first.ids, axis), zero, all(s.constant for s in views.values())))


def combine(trace: Trace, call: Call, operands: list[Tensor], why: str) -> Slots | None:
    """Ties operands whose channels meet element by element; None when they meet something fixed."""
    rank = call.out.dim()
    carried = [(tensor, trace.slots(tensor)) for tensor in operands]
    tracked = [(lifted(s.ids, rank), s) for _, s in carried if s is not None]
    if not tracked:
        return None
    leader = next((ids for ids, s in tracked if not s.constant), tracked[0][0])
    shape, fixed = leader.shape, False
    for tensor, slots in carried:
        ids = None if slots is None else lifted(slots.ids, rank)
        if ids is not None and ids.shape == shape:
            trace.tie(leader, ids, why)
            continue
        trace.freeze(slots, f"{why} with a tensor whose channels lie elsewhere")
        sizes = (1,) * (rank - tensor.dim()) + tuple(tensor.shape)
        fixed |= any(wide > 1 and size > 1 for wide, size in zip(shape, sizes))
    if fixed:
        trace.ledger.freeze(leader, f"{trace.layer or 'model'}: {why} with channels that are fixed")
        return None
    return Slots(leader, zero=False, constant=all(s is None or s.constant for _, s in carried))


@handlers.register("slice", "narrow")
def slice_(trace: Trace, call: Call) -> None:
    """A part of an axis; bounds on the channels are taken as fixed numbers."""
    _part(trace, call, call.get("dim", 0))


@handlers.register("select")
def select(trace: Trace, call: Call) -> None:
    """One position of an axis."""
    _part(trace, call, call["dim"], drop=True)


def _part(trace: Trace, call: Call, dim: int, *, drop: bool = False) -> None:
    slots = trace.slots(call["self"])
    if slots is None:
        return
    axis = dim % slots.ids.ndim
    if slots.ids.shape[axis] == 1:
        trace.put(call.out, _same(slots, slots.ids.squeeze(axis) if drop else slots.ids))
    elif not drop and call.out.shape[axis] == call["self"].shape[axis]:
        trace.put(call.out, slots)
    else:
        trace.freeze(slots, f"{call.operator} of channels at fixed places")
        trace.put(call.out, None)


@handlers.register("split", "split_with_sizes", "chunk", "unbind", "tensor_split")
def split(trace: Trace, call: Call) -> None:
    """Equal parts of the channels lose equal positions; unequal ones are taken as fixed numbers."""
    slots = trace.slots(call["self"])
    if slots is None:
        return
    axis = call.get("dim", 0) % slots.ids.ndim
    parts: Sequence[Any] = call.out
    if slots.ids.shape[axis] == 1:
        for part in parts:
            trace.put(part, _same(slots, slots.ids if part.dim() == slots.ids.ndim else slots.ids.squeeze(axis)))
        return
    if call.operator == "unbind" or trace.cautious or len({part.shape[axis] for part in parts}) != 1:
        stop_at(trace, call, "channels are split at fixed places")
        return
    pieces = np.split(slots.ids, len(parts), axis)
    for part, piece in zip(parts, pieces):
        trace.tie(pieces[0], piece, "equal positions of all parts of a split")
        trace.put(part, _same(slots, piece))


@handlers.register("constant_pad_nd")
def pad(trace: Trace, call: Call) -> None:
    """Padded channels are slots of their own; the module may offer ``before`` and ``after`` to shrink them."""
    slots = trace.slots(call["self"])
    if slots is None:
        return
    amounts = {call.out.dim() - 1 - i // 2: tuple(call["pad"][i : i + 2]) for i in range(0, len(call["pad"]), 2)}
    zero = slots.zero and call.get("value", 0) == 0
    wide = [axis for axis, amount in amounts.items() if any(amount) and slots.ids.shape[axis] > 1]
    if not wide:
        trace.put(call.out, Slots(slots.ids, zero))
        return
    axis = wide[0]
    if len(wide) > 1 or slots.along(axis) is None or min(amounts[axis]) < 0:
        stop_at(trace, call, "padding of several axes that carry channels")
        return
    before, after = amounts[axis]
    added = trace.ledger.fresh(before + after)
    if call.get("value", 0) != 0 or not trace.setting((("before", before), ("after", after)), added):
        trace.ledger.freeze(added, f"{trace.layer or 'model'}: pads channels by a fixed number")
    shape = [-1 if other == axis else 1 for other in range(slots.ids.ndim)]
    whole = [added[:before].reshape(shape), slots.ids, added[before:].reshape(shape)]
    trace.put(call.out, Slots(np.concatenate(whole, axis), zero))


@handlers.register("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(trace: Trace, call: Call) -> None:
    """View as groups x positions, transpose, view back."""
    slots = trace.slots(call["self"])
    ids = None if slots is None else slots.along(1)
    if slots is None or ids is None:
        stop_at(trace, call, "shuffle of another axis than the channels")
        return
    rows = ids.reshape(call["groups"], -1)
    trace.ledger.tie_along(rows, 0, f"{trace.layer or 'model'}: equal positions of all shuffled groups")
    trace.put(call.out, _same(slots, rows.T.reshape(slots.ids.shape)))


@handlers.register("pixel_shuffle")
def pixel_shuffle(trace: Trace, call: Call) -> None:
    """Each channel of the output is made of factor x factor neighbours."""
    slots = trace.slots(call["self"])
    ids = None if slots is None else slots.along(slots.ids.ndim - 3)
    if slots is None or ids is None:
        stop_at(trace, call, "pixel shuffle of another axis than the channels")
        return
    rows = ids.reshape(-1, call["upscale_factor"] ** 2)
    trace.ledger.tie_along(rows, 1, f"{trace.layer or 'model'}: one channel after a pixel shuffle")
    shape = [-1 if other == slots.ids.ndim - 3 else 1 for other in range(slots.ids.ndim)]
    trace.put(call.out, _same(slots, rows[:, 0].reshape(shape)))
