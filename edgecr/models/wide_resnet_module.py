"""The module of wide residual networks that normalise before each convolution."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, relu

from edgecr.models.parts_module import conv, initialise


class PreActBlock(nn.Module):
    """Two 3x3 convolutions, each behind a norm and a rectifier; a bare 1x1 convolution changes the shape."""

    def __init__(self, inputs: int, width: int, stride: int, *, affine: bool, adds_activated: bool) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs, affine=affine), conv(inputs, width, 3, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(width, affine=affine), conv(width, width, 3)
        changes = stride != 1 or inputs != width
        self.shortcut = conv(inputs, width, 1, stride) if changes else nn.Identity()
        self.adds_activated = adds_activated or changes

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        activated = relu(self.bn1(x))
        out = self.conv2(relu(self.bn2(self.conv1(activated))))
        total: Tensor = out + self.shortcut(activated if self.adds_activated else x)
        return total


class PreActWideResNet(nn.Module):
    """A bare stem, stages, a last norm, and a classifier on the globally pooled features.

    A classifier without biases is a 1x1 convolution. ``adds_activated`` lets every block add its activated input, not
    only those that change its shape.
    """

    def __init__(
        self,
        stem: int,
        widths: Sequence[int],
        blocks: Sequence[int],
        classes: int,
        *,
        affine: bool,
        adds_activated: bool,
        biased: bool,
    ) -> None:
        super().__init__()
        self.conv1 = conv(3, stem, 3)
        self.stages, channels = nn.Sequential(), stem
        for number, (width, count) in enumerate(zip(widths, blocks)):
            stage = nn.Sequential()
            for stride in [2 if number else 1] + [1] * (count - 1):
                stage.append(PreActBlock(channels, width, stride, affine=affine, adds_activated=adds_activated))
                channels = width
            self.stages.append(stage)
        self.bn = nn.BatchNorm2d(channels, affine=affine)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(channels, classes) if biased else conv(channels, classes, 1)
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        x = adaptive_avg_pool2d(relu(self.bn(self.stages(self.conv1(x)))), 1)
        if isinstance(self.classifier, nn.Linear):
            x = self.flatten(x)
        logits: Tensor = self.flatten(self.classifier(x))
        return logits
