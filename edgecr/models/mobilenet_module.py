"""The module of MobileNetV1."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def _layer(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution that keeps the size but for its stride, a batch norm and a rectifier."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


class MobileNet(nn.Module):
    """A stem, blocks of a depthwise and a 1x1 convolution, and a linear classifier on the globally pooled features."""

    def __init__(self, stem: int, blocks: Sequence[tuple[int, int]], classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_layer(3, stem, 3, stride=2))
        self.blocks = nn.Sequential()
        channels = stem
        for outputs, stride in blocks:
            depthwise = _layer(channels, channels, 3, stride, groups=channels)
            self.blocks.append(nn.Sequential(*depthwise, *_layer(channels, outputs, 1)))
            channels = outputs
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        x = self.blocks(self.stem(x))
        x = nn.functional.adaptive_avg_pool2d(x, 1)
        logits: Tensor = self.classifier(torch.flatten(x, 1))
        return logits
