"""The module of plain networks without biases and norms."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from edgecr.models.parts_module import conv


class PlainConvNet(nn.Module):
    """Pairs of 3x3 convolutions, a pooling behind each; all that is left is read by 1x1 convolutions as one pixel."""

    def __init__(self, widths: Sequence[int], hidden: int, side: int, classes: int) -> None:
        super().__init__()
        self.side = side
        self.features, channels = nn.Sequential(), 3
        for width in widths:
            self.features.extend([conv(channels, width, 3), nn.ReLU(), conv(width, width, 3), nn.ReLU()])
            self.features.append(nn.MaxPool2d(2))
            channels = width
        numbers = channels * (side >> len(widths)) ** 2
        hidden_layers = [conv(numbers, hidden, 1), nn.ReLU(), conv(hidden, hidden, 1), nn.ReLU()]
        self.classifier = nn.Sequential(*hidden_layers, conv(hidden, classes, 1))
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """The logits; ValueError for images of another size."""
        if x.shape[-2:] != (self.side, self.side):
            raise ValueError(f"its classifier is for images of {self.side}x{self.side}, so give the data that size")
        x = self.features(x).flatten(1)[:, :, None, None]
        logits: Tensor = self.classifier(x).flatten(1)
        return logits


def _initialise(module: nn.Module) -> None:
    """Draws the weights of a convolution so that sums keep their variance: no norm would mend another one."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
