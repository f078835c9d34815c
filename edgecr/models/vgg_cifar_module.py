"""The module of VGG networks for small images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgecr.models.parts_module import initialise


class Vgg(nn.Module):
    """Runs of so many layers of one width, a pooling behind each, and a linear classifier on pooled features."""

    def __init__(self, runs: Sequence[tuple[int, int]], classes: int) -> None:
        super().__init__()
        self.features, channels = nn.Sequential(), 3
        for width, layers in runs:
            for _ in range(layers):
                self.features.extend([nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()])
                channels = width
            self.features.append(nn.MaxPool2d(2))
        self.classifier = nn.Linear(channels, classes)
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        x = nn.functional.adaptive_avg_pool2d(self.features(x), 1)
        logits: Tensor = self.classifier(torch.flatten(x, 1))
        return logits
