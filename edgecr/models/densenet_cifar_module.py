"""The module of DenseNets with bottlenecks and compression."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, relu

from edgecr.models.parts_module import conv, initialise


class DenseLayer(nn.Module):
    """A 1x1 and a 3x3 convolution behind norms and rectifiers; what comes out is put behind the input's channels."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        inner = 4 * growth
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), conv(inputs, inner, 1)
        self.bn2, self.conv2 = nn.BatchNorm2d(inner), conv(inner, growth, 3)

    def forward(self, x: Tensor) -> Tensor:
        """The input, and the new channels behind it."""
        new = self.conv2(relu(self.bn2(self.conv1(relu(self.bn1(x))))))
        return torch.cat([x, new], 1)


class Halving(nn.Module):
    """Half as many channels by a 1x1 convolution, and half the height and width by averages."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.bn, self.conv = nn.BatchNorm2d(inputs), conv(inputs, inputs // 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The smaller map."""
        return avg_pool2d(self.conv(relu(self.bn(x))), 2)


class CifarDenseNet(nn.Module):
    """A bare stem, dense blocks with halvings between them, a last norm and a linear classifier on pooled features."""

    def __init__(self, growth: int, blocks: Sequence[int], classes: int) -> None:
        super().__init__()
        channels = 2 * growth
        self.conv1, self.blocks = conv(3, channels, 3), nn.Sequential()
        for number, count in enumerate(blocks):
            block = nn.Sequential()
            if number:
                block.append(Halving(channels))
                channels //= 2
            for _ in range(count):
                block.append(DenseLayer(channels, growth))
                channels += growth
            self.blocks.append(block)
        self.bn, self.linear = nn.BatchNorm2d(channels), nn.Linear(channels, classes)
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        x = adaptive_avg_pool2d(relu(self.bn(self.blocks(self.conv1(x)))), 1)
        logits: Tensor = self.linear(torch.flatten(x, 1))
        return logits
