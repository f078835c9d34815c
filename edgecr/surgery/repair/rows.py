"""The inputs and answers of a layer at some positions of each image, as rows of matrices."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from edgecr.core.seeds import derive_seed
from edgecr.surgery.repair.stream import LayerCall
from edgecr.surgery.repair.structure import Application


@lru_cache(maxsize=10_000)
def positions(use: Application, chunk: int, count: int, available: int, seed: int) -> Tensor:
    """Flat output positions that all images of a chunk are looked at; the same for every model."""
    if count >= available:
        return torch.arange(available)
    generator = torch.Generator().manual_seed(derive_seed(seed, zlib.crc32(use.weight.encode()), use.number, chunk))
    return torch.randperm(available, generator=generator)[:count].sort().values


def output_rows(out: Tensor, images: int, chosen: Tensor, *, convolution: bool) -> Tensor:
    """Answers at chosen positions, shape (rows, outputs)."""
    if convolution:
        by_place = out.flatten(2).transpose(1, 2)  # with channels last these are rows in memory, which go fast
        return by_place.index_select(1, chosen.to(out.device)).reshape(-1, out.shape[1]).float().cpu()
    return _by_image(out, images)[:, chosen.to(out.device)].reshape(-1, out.shape[-1]).float().cpu()


def places(out: Tensor, images: int, *, convolution: bool) -> int:
    """The positions that a layer answers for each image."""
    return math.prod(out.shape[2:]) if convolution else _by_image(out, images).shape[1]


def input_rows(call: LayerCall, weight: Tensor, images: int, chosen: Tensor) -> Tensor:
    """The inputs of a layer for its answers at chosen positions, shape (rows, inputs, taps of the kernel)."""
    if not call.geometry:
        rows = _by_image(call.input, images)[:, chosen.to(call.input.device)]
        return rows.reshape(-1, call.input.shape[-1], 1).float().cpu()
    kernel = weight.shape[2:]
    dims = len(kernel)
    stride, padding, dilation = (_each(call.geometry[key], dims) for key in ("stride", "padding", "dilation"))
    index, inside = _taps(tuple(call.input.shape[2:]), kernel, stride, padding, dilation, chosen)
    by_place = call.input.flatten(2).transpose(1, 2).index_select(1, index.flatten().to(call.input.device))
    found = by_place.reshape(-1, *index.shape, call.input.shape[1]).float().cpu()  # (images, positions, taps, inputs)
    if not inside.all():
        found.mul_(inside[None, :, :, None])
    return found.flatten(0, 1).transpose(1, 2)


def _by_image(values: Tensor, images: int) -> Tensor:
    """Rows of a linear layer, shape (images, positions, values); those that are not the images' own as one image's."""
    own = (values.numel() // values.shape[-1]) % images == 0
    return values.reshape(images if own else 1, -1, values.shape[-1])


def _each(value: Sequence[int], dims: int) -> list[int]:
    return list(value) * dims if len(value) == 1 else list(value)


def _taps(
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    chosen: Tensor,
) -> tuple[Tensor, Tensor]:
    """Flat positions in the input, shape (positions, taps), and where these lie inside of it rather than around."""
    made = [
        (whole + 2 * pad - step * (taps - 1) - 1) // move + 1
        for whole, taps, move, pad, step in zip(size, kernel, stride, padding, dilation)
    ]
    index, rest, reach = torch.zeros(len(chosen), 1, dtype=torch.long), chosen, 1
    inside = torch.ones(len(chosen), 1, dtype=torch.bool)
    for axis in reversed(range(len(size))):
        start = (rest % made[axis]) * stride[axis] - padding[axis]
        rest = rest // made[axis]
        along = start[:, None] + torch.arange(kernel[axis]) * dilation[axis]
        fits = (along >= 0) & (along < size[axis])
        # the taps of an earlier axis are the slower ones, as in a flattened kernel
        index = (along.clamp(0, size[axis] - 1)[:, :, None] * reach + index[:, None, :]).flatten(1)
        inside = (fits[:, :, None] & inside[:, None, :]).flatten(1)
        reach *= size[axis]
    return index, inside
