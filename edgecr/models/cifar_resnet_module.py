"""The modules of the CIFAR residual networks; tensor names are those of widely used checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, relu

from edgecr.models.parts_module import conv, initialise


class PadShortcut(nn.Module):
    """Option A of He et al. 2016: subsample, then put zero channels before and after."""

    def __init__(self, stride: int, before: int, after: int) -> None:
        super().__init__()
        self.stride, self.before, self.after = stride, before, after

    def forward(self, x: Tensor) -> Tensor:
        """The shortcut's output; surgery may have changed ``before`` and ``after``."""
        return pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))

    def extra_repr(self) -> str:
        """Returns the settings that ``print(model)`` shows."""
        return f"stride={self.stride}, before={self.before}, after={self.after}"


def _shortcut(kind: str, inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    if kind == "A":
        added = outputs - inputs
        return PadShortcut(stride, added // 2, added - added // 2)
    return nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3), nn.BatchNorm2d(width)
        self.shortcut = _shortcut(shortcut, inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        out = relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return relu(out + self.shortcut(x))


class Bottleneck(nn.Module):
    """A 3x3 convolution between two of 1x1, around a shortcut; the stride is in the 3x3."""

    expansion = 4
    groups = 1

    def __init__(self, inputs: int, width: int, stride: int, shortcut: str) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1, self.bn1 = conv(inputs, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride, self.groups), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv(width, outputs, 1), nn.BatchNorm2d(outputs)
        self.shortcut = _shortcut(shortcut, inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        out = relu(self.bn1(self.conv1(x)))
        out = relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return relu(out + self.shortcut(x))


class GroupedBottleneck(Bottleneck):
    """The block of ResNeXt-29 (4x32d): the 3x3 convolution has groups, and twice as many channels come out of it."""

    expansion = 2
    groups = 4


_BLOCKS: dict[str, type[BasicBlock] | type[Bottleneck]] = {
    "basic": BasicBlock,
    "bottleneck": Bottleneck,
    "grouped": GroupedBottleneck,
}


class CifarResNet(nn.Module):
    """Stem, stages ``layer1``, ``layer2``, … and a linear classifier on the globally pooled features."""

    def __init__(
        self,
        *,
        stem: int,
        widths: Sequence[int],
        blocks: Sequence[int],
        classes: int,
        block: str,
        shortcut: str,
        pool: bool,
    ) -> None:
        super().__init__()
        kind = _BLOCKS[block]
        self.conv1, self.bn1 = conv(3, stem, 3), nn.BatchNorm2d(stem)
        self.pool = nn.MaxPool2d(3, 2, 1) if pool else nn.Identity()
        channels, stages = stem, []
        for number, (width, count) in enumerate(zip(widths, blocks), start=1):
            strides = [1 if number == 1 else 2] + [1] * (count - 1)
            stage = nn.Sequential()
            for stride in strides:
                stage.append(kind(channels, width, stride, shortcut))
                channels = width * kind.expansion
            stages.append(f"layer{number}")
            self.add_module(stages[-1], stage)
        self.stages = tuple(stages)
        self.linear = nn.Linear(channels, classes)
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        x = self.pool(relu(self.bn1(self.conv1(x))))
        for stage in self.stages:
            x = self.get_submodule(stage)(x)
        x = nn.functional.adaptive_avg_pool2d(x, 1)
        logits: Tensor = self.linear(torch.flatten(x, 1))
        return logits
