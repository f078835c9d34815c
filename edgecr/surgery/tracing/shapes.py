"""Slot propagation through operators that only move, cut or join values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from edgecr.surgery.tracing.dispatch import Call, carried, handlers, stop_at
from edgecr.surgery.tracing.slots import Ids, Slots
from edgecr.surgery.tracing.trace import Trace


@handlers.register("view", "_unsafe_view", "reshape", "_reshape_alias", "unsqueeze", "squeeze")
def view(trace: Trace, call: Call) -> None:
    """The same values in order under another shape; an axis that is split keeps its outer part."""
    slots = trace.slots(call["self"])
    if slots is None:
        return
    ids, split = _reshaped(slots.ids, tuple(call["self"].shape), tuple(call.out.shape))
    # Only the innermost part of a split axis shrinks, as in groups x (channels // groups).
    for axis in [axis for axis, size in enumerate(ids.shape) if size > 1][:-1] if split else []:
        trace.tie_along(ids, axis, "equal positions after a view splits the channels")
    trace.put(call.out, replace(slots, ids=_pressed(ids)))


def _reshaped(ids: Ids, old: tuple[int, ...], new: tuple[int, ...]) -> tuple[Ids, bool]:
    """Ids under a new shape, and whether a channel axis was split into several."""
    shape: list[int] = []
    sizes: list[int] = []
    split = False
    for before, after in _blocks(old, new):
        carrying = sum(ids.shape[axis] > 1 for axis in before)
        sizes += [old[axis] if carrying else 1 for axis in before]
        shape += [new[axis] if carrying else 1 for axis in after]
        split |= 0 < carrying < sum(new[axis] > 1 for axis in after)
    return np.broadcast_to(ids, sizes).reshape(shape), split


def _pressed(ids: Ids) -> Ids:
    """Reduces axes along which the ids are in fact constant to size 1."""
    for axis, size in enumerate(ids.shape):
        first = ids.take([0], axis)
        if size > 1 and (ids == first).all():
            ids = first
    return ids


def _blocks(old: tuple[int, ...], new: tuple[int, ...]) -> list[tuple[range, range]]:
    """The smallest runs of old and new axes that hold the same number of elements."""
    blocks: list[tuple[range, range]] = []
    i = j = 0
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


@handlers.register("permute", "transpose")
def permute(trace: Trace, call: Call) -> None:
    """Axes change places."""
    slots = trace.slots(call["self"])
    if slots is None:
        return
    rank = slots.ids.ndim
    order = [axis % rank for axis in call.get("dims", range(rank))]
    if "dims" not in call.arguments:
        one, other = call.get("dim0", 0) % rank, call.get("dim1", 1) % rank
        order[one], order[other] = order[other], order[one]
    trace.put(call.out, replace(slots, ids=slots.ids.transpose(order)))


@handlers.register("t")
def transpose_matrix(trace: Trace, call: Call) -> None:
    """Linear layers transpose their weight first; the name is kept for the product."""
    name = trace.name(call["self"])
    if name is not None and call["self"].dim() == 2:
        trace.transpose(call.out, name)
    else:
        permute(trace, call)


@handlers.register("expand", "repeat")
def expand(trace: Trace, call: Call) -> None:
    """Other axes than the channels repeat."""
    slots = trace.slots(call["self"])
    if slots is None:
        return
    ids = lifted(slots.ids, call.out.dim())
    if any(wide > 1 and wide != size for wide, size in zip(ids.shape, call.out.shape)):
        stop_at(trace, call, "channels are repeated")
    else:
        trace.put(call.out, replace(slots, ids=ids))


def lifted(ids: Ids, rank: int) -> Ids:
    """Ids with leading axes of size one, as broadcasting adds them."""
    return ids.reshape((1,) * (rank - ids.ndim) + ids.shape)


def _spread(ids: Ids, axis: int, rank: int) -> Ids:
    """A vector of ids along one axis of a tensor."""
    return ids.reshape([-1 if other == axis else 1 for other in range(rank)])


@handlers.register("cat")
def cat(trace: Trace, call: Call) -> None:
    """Along the channels the slots follow each other; along another axis the parts are tied."""
    parts = [part for part in call["tensors"] if part.numel() > 0]
    tracked = [slots for slots in map(trace.slots, parts) if slots is not None]
    if not tracked:
        return
    axis = call.get("dim", 0) % call.out.dim()
    along = [slots.along(axis) is not None for slots in tracked]
    if all(along):
        ids = np.concatenate([_part_ids(trace, part, axis) for part in parts], axis)
        zero = all(slots.zero for slots in tracked)
        trace.put(call.out, Slots(ids, zero, all(slots.constant for slots in tracked)))
    elif any(axis in slots.varying() for slots in tracked):
        stop_at(trace, call, "concatenation of tensors whose channels lie on different axes")
    else:
        trace.put(call.out, combine(trace, call, parts, "concatenation along another axis"))


def _part_ids(trace: Trace, part: Tensor, axis: int) -> Ids:
    """The ids of one part of a concatenation; channels without slots get fixed ones."""
    slots = trace.slots(part)
    if slots is not None:
        return slots.ids
    return _spread(trace.fixed(part.shape[axis], "concatenated channels are fixed"), axis, part.dim())


@handlers.register("stack")
def stack(trace: Trace, call: Call) -> None:
    """A new axis; the channels of all parts are tied."""
    axis = call.get("dim", 0) % call.out.dim()
    known = [trace.slots(part) for part in call["tensors"]]
    first = known[0]
    if first is None or any(slots is None or slots.ids.shape != first.ids.shape for slots in known):
        return stop_at(trace, call, "stack of tensors whose channels differ")
    tracked = [slots for slots in known if slots is not None]
    for slots in tracked[1:]:
        trace.tie(first.ids, slots.ids, "stacked")
    zero, constant = all(s.zero for s in tracked), all(s.constant for s in tracked)
    trace.put(call.out, Slots(np.expand_dims(first.ids, axis), zero, constant))
    return None


def combine(trace: Trace, call: Call, operands: Sequence[Tensor], why: str) -> Slots | None:
    """Ties operands whose channels meet element by element; None when they meet something fixed."""
    rank = call.out.dim()
    known = [trace.slots(tensor) for tensor in operands]
    rows = [None if slots is None else lifted(slots.ids, rank) for slots in known]
    tracked = sorted((s.constant, n) for n, s in enumerate(known) if s is not None)
    if not tracked:
        return None
    leader = rows[tracked[0][1]]
    assert leader is not None
    fixed = False
    for tensor, ids in zip(operands, rows):
        if ids is not None and ids.shape == leader.shape:
            trace.tie(leader, ids, why)
        else:
            trace.freeze(ids, f"{why} with a tensor whose channels lie elsewhere")
            fixed |= any(wide > 1 and size > 1 for wide, size in zip(leader.shape, _own_sizes(tensor, rank)))
    if fixed:
        trace.freeze(leader, f"{why} with channels that are fixed")
        return None
    tracked_slots = [slots for slots in known if slots is not None]
    zero = len(tracked_slots) == len(known) and all(slots.zero for slots in tracked_slots)
    return Slots(leader, zero, all(slots is None or slots.constant for slots in known))


def _own_sizes(tensor: Tensor, rank: int) -> list[int]:
    """Sizes of a tensor's axes; an axis that was expanded holds one value, and expands to whatever it meets."""
    own = [1 if step == 0 else size for size, step in zip(tensor.shape, tensor.stride())]
    return [1] * (rank - tensor.dim()) + own


@handlers.register("slice", "select")
def part_of_axis(trace: Trace, call: Call) -> None:
    """A part of an axis; bounds on the channels are taken as fixed numbers."""
    slots = trace.slots(call["self"])
    if slots is None:
        return
    axis, drops = call.get("dim", 0) % slots.ids.ndim, call.out.dim() < slots.ids.ndim
    if slots.ids.shape[axis] == 1:
        trace.put(call.out, replace(slots, ids=slots.ids.squeeze(axis) if drops else slots.ids))
    elif call.out.shape == call["self"].shape and call.get("step", 1) == 1:
        trace.put(call.out, slots)
    else:
        stop_at(trace, call, f"{call.operator} of channels at fixed places")


@handlers.register("split", "split_with_sizes", "chunk", "unbind")
def split(trace: Trace, call: Call) -> None:
    """Equal parts of the channels lose equal positions; unequal ones are taken as fixed numbers."""
    slots = trace.slots(call["self"])
    if slots is None:
        return None
    axis = call.get("dim", 0) % slots.ids.ndim
    drops, equal = call.operator == "unbind", len({part.shape for part in call.out}) == 1
    if slots.ids.shape[axis] == 1:
        pieces = [slots.ids.squeeze(axis) if drops else slots.ids] * len(call.out)
    elif drops or not equal:
        return stop_at(trace, call, "channels are split at fixed places")
    else:
        pieces = np.split(slots.ids, len(call.out), axis)
        for piece in pieces[1:]:
            trace.tie(pieces[0], piece, "equal positions of all parts of a split")
    for part, ids in zip(call.out, pieces):
        trace.put(part, replace(slots, ids=ids))
    return None


@handlers.register("constant_pad_nd")
def pad(trace: Trace, call: Call) -> None:
    """Padded channels are slots of their own; a module that says ``before`` and ``after`` can shrink them."""
    slots = trace.slots(call["self"])
    if slots is None:
        return None
    rank, zeros = slots.ids.ndim, call.get("value", 0) == 0
    padded = {rank - 1 - n // 2: call["pad"][n : n + 2] for n in range(0, len(call["pad"]), 2)}
    wide = [axis for axis in padded if any(padded[axis]) and slots.ids.shape[axis] > 1]
    ids = slots.ids
    if wide:
        axis, (before, after) = wide[0], padded[wide[0]]
        if slots.along(axis) is None or before < 0 or after < 0:
            return stop_at(trace, call, "padding of several axes that carry channels")
        added = trace.ledger.fresh(before + after)
        if not (zeros and trace.setting((("before", before), ("after", after)), added)):
            trace.freeze(added, "channels are padded by a fixed number")
        rows = [_spread(row, axis, rank) for row in (added[:before], slots.ids.ravel(), added[before:])]
        ids = np.concatenate(rows, axis)
    trace.put(call.out, replace(slots, ids=ids, zero=slots.zero and zeros))
    return None


@handlers.register("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(trace: Trace, call: Call) -> None:
    """View as groups x positions, transpose, view back."""
    slots = carried(trace, call, 1, "shuffle of another axis than the channels")
    if slots is not None:
        rows = slots.ids.reshape(call["groups"], -1)
        trace.tie_along(rows, 0, "equal positions of all shuffled groups")
        trace.put(call.out, replace(slots, ids=rows.T.reshape(slots.ids.shape)))


@handlers.register("pixel_shuffle")
def pixel_shuffle(trace: Trace, call: Call) -> None:
    """Each channel of the output is made of factor x factor neighbours."""
    slots = carried(trace, call, -3, "pixel shuffle of another axis than the channels")
    if slots is not None:
        rows = slots.ids.reshape(-1, call["upscale_factor"] ** 2)
        trace.tie_along(rows, 1, "one channel after a pixel shuffle")
        trace.put(call.out, replace(slots, ids=_spread(rows[:, 0], slots.ids.ndim - 3, slots.ids.ndim)))


@handlers.register("flip", "roll")
def moved(trace: Trace, call: Call) -> None:
    """Values move along other axes than the channels."""
    slots = trace.slots(call["self"])
    if slots is not None and call["dims"] and all(slots.ids.shape[axis] == 1 for axis in call["dims"]):
        trace.put(call.out, slots)
    else:
        stop_at(trace, call, f"{call.operator} moves channels")
