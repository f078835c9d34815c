"""The inputs and answers of a layer at some positions of each image, as rows of matrices."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from edgecr.core.seeds import derive_seed
from edgecr.surgery.repair.stream import LayerCall
from edgecr.surgery.repair.structure import Application


def positions(use: Application, chunk: int, count: int, available: int, seed: int) -> Tensor:
    """Flat output positions that all images of a chunk are looked at; the same for every model."""
    if count >= available:
        return torch.arange(available)
    generator = torch.Generator().manual_seed(derive_seed(seed, zlib.crc32(use.weight.encode()), use.number, chunk))
    return torch.randperm(available, generator=generator)[:count].sort().values


def output_rows(out: Tensor, images: int, chosen: Tensor, *, convolution: bool) -> Tensor:
    """Answers at chosen positions, shape (rows, outputs)."""
    if convolution:
        return out.flatten(2)[:, :, chosen.to(out.device)].transpose(1, 2).reshape(-1, out.shape[1]).float().cpu()
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
    around = [amount for pad in reversed(padding) for amount in (pad, pad)]
    read = functional.pad(call.input, around) if any(around) else call.input
    index = _taps(tuple(read.shape[2:]), kernel, stride, dilation, chosen).to(read.device)
    found = read.flatten(2)[:, :, index]  # (images, inputs, positions, taps)
    return found.transpose(1, 2).reshape(-1, read.shape[1], index.shape[1]).float().cpu()


def _by_image(values: Tensor, images: int) -> Tensor:
    """Rows of a linear layer, shape (images, positions, values); those that are not the images' own as one image's."""
    own = (values.numel() // values.shape[-1]) % images == 0
    return values.reshape(images if own else 1, -1, values.shape[-1])


def _each(value: Sequence[int], dims: int) -> list[int]:
    return list(value) * dims if len(value) == 1 else list(value)


def _taps(
    size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], chosen: Tensor
) -> Tensor:
    """Flat positions in the padded input, shape (positions, taps)."""
    made = [
        (whole - step * (taps - 1) - 1) // move + 1 for whole, taps, move, step in zip(size, kernel, stride, dilation)
    ]
    index, rest, reach = torch.zeros(len(chosen), 1, dtype=torch.long), chosen, 1
    for axis in reversed(range(len(size))):
        start = (rest % made[axis]) * stride[axis]
        rest = rest // made[axis]
        along = start[:, None] + torch.arange(kernel[axis]) * dilation[axis]
        # the taps of an earlier axis are the slower ones, as in a flattened kernel
        index = (along[:, :, None] * reach + index[:, None, :]).flatten(1)
        reach *= size[axis]
    return index
