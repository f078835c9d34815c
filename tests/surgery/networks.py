"""Networks whose code is not friendly to a removal of channels."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Net(nn.Module):
    """A stem and a head around whatever a test puts between them."""

    def __init__(self, width: int = 8, out: int | None = None) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(out or width, 5)

    def middle(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> Tensor:
        x = self.middle(F.relu(self.norm(self.stem(x))))
        return self.head(x.mean((2, 3)) if x.dim() == 4 else x)


def widths(graph: Any) -> dict[str, int]:
    return {group.name: group.width for group in graph.groups}


class HardView(nn.Module):
    """LeNet's habit: ``view(-1, 16 * 4)`` in front of the head, here of small images."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 16, 3, padding=1)
        self.three, self.head = nn.Linear(16 * 4, 12), nn.Linear(12, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.two(F.max_pool2d(F.relu(self.one(x)), 2))), 2)
        return self.head(F.relu(self.three(self.flat(x))))

    def flat(self, x: Tensor) -> Tensor:
        return x.view(-1, 16 * 4)


class HardReshape(HardView):
    """The same in any order of memory."""

    def flat(self, x: Tensor) -> Tensor:
        return x.reshape(-1, 16 * 4)


class Recurrent(nn.Module):
    """Columns of a feature map are the steps of a recurrent layer."""

    def __init__(self, num_classes: int = 3, kind: str = "LSTM") -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 10, 3, padding=1)
        self.steps = getattr(nn, kind)(10 * 4, 9, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(18, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.two(F.max_pool2d(F.relu(self.one(x)), 2)))
        n, c, h, w = x.shape
        steps, _ = self.steps(x.permute(0, 3, 1, 2).reshape(n, w, c * h))
        return self.head(steps[:, -1])


class Blurred(nn.Module):
    """Fixed filters in buffers: one depthwise, one that mixes the channels of the image, one of each channel's own."""

    def __init__(self, num_classes: int = 3, says: str = "channels") -> None:
        super().__init__()
        self.register_buffer("edges", torch.randn(4, 3, 3, 3))
        self.one, self.blur = nn.Conv2d(4, 8, 3, padding=1), self.Blur(8, says)
        self.two, self.head = nn.Conv2d(8, 6, 1), nn.Linear(6, num_classes)
        self.register_buffer("mix", torch.randn(6, 6, 1, 1))

    class Blur(nn.Module):
        def __init__(self, channels: int, says: str) -> None:
            super().__init__()
            self.says = says
            if says == "channels":
                self.channels = channels
            self.register_buffer("kernel", torch.rand(channels, 1, 3, 3), persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            groups = {"channels": lambda: self.channels, "shape": lambda: x.shape[1], "number": lambda: 8}[self.says]()
            return F.conv2d(x, self.kernel, stride=2, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blur(F.relu(self.one(F.conv2d(x, self.edges, padding=1))))
        return self.head(F.conv2d(F.relu(self.two(x)), self.mix).relu().mean((2, 3)))


class WideGroups(nn.Module):
    """Eight groups of four channels, cut by the group; of few that are left, a trace would cut the inside."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.stem, self.mix = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 32, 3, groups=8)
        self.norm, self.head = nn.BatchNorm2d(32), nn.Linear(32, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.norm(self.mix(F.relu(self.stem(x))))).mean((2, 3)))


class Learnt(nn.Module):
    """An activation with a learned offset, as in HGNetV2: a channel that is zero before it is not zero behind it."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 1), nn.Linear(6, num_classes)
        self.scale, self.offset = nn.Parameter(torch.tensor([1.2])), nn.Parameter(torch.tensor([0.3]))

    def forward(self, x: Tensor) -> Tensor:
        x = self.scale * F.relu(self.one(x)) + self.offset
        return self.head((self.scale * F.relu(self.two(x)) + self.offset).mean((2, 3)))
