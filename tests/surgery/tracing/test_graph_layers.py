"""Groups of channels across each kind of layer: padding, functional calls, scales, norms, resizing."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.surgery.networks import Net, widths

Prune = Callable[..., Any]
SHAPE = (3, 8, 8)


class Pad(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.before, self.after = before, after

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, 0, self.before, self.after))


class Padded(Net):
    def __init__(self) -> None:
        super().__init__(8, out=16)
        self.pad, self.side = Pad(3, 5), nn.Conv2d(8, 16, 1)

    def middle(self, x: Tensor) -> Tensor:
        return self.pad(x) + self.side(x)


def test_a_padding_module_shrinks_with_what_it_meets(prune: Prune) -> None:
    graph, slim, _ = prune(Padded(), SHAPE, fresh=Padded)
    assert widths(graph) == {"stem": 8, "side#2": 8} or widths(graph) == {"stem": 8, "side": 8}
    assert slim.pad.before + slim.pad.after + slim.stem.out_channels == slim.side.out_channels
    assert slim.pad.before + slim.pad.after < 8


def test_a_padding_by_hand_keeps_its_width(prune: Prune) -> None:
    class ByHand(Padded):
        def middle(self, x: Tensor) -> Tensor:
            return F.pad(x, (0, 0, 0, 0, 3, 5)) + self.side(x)

    graph, slim, _ = prune(ByHand(), SHAPE, fresh=ByHand)
    assert widths(graph) == {"stem": 8}
    assert slim.side.out_channels == 8 + slim.stem.out_channels


def test_functional_layers_are_cut_by_their_parameters(prune: Prune) -> None:
    class Functional(Net):
        def __init__(self) -> None:
            super().__init__(out=6)
            self.kernel = nn.Parameter(torch.randn(6, 8, 1, 1))
            self.shift = nn.Parameter(torch.randn(6))

        def middle(self, x: Tensor) -> Tensor:
            return F.conv2d(x, self.kernel, self.shift)

    graph, slim, _ = prune(Functional(), SHAPE, fresh=Functional)
    assert sorted(group.width for group in graph.groups) == [6, 8]
    assert len(slim.kernel) == len(slim.shift) == slim.head.in_features


def test_scales_and_parametric_activations_follow(prune: Prune) -> None:
    class Scaled(Net):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.slope = nn.Parameter(torch.rand(8, 1, 1)), nn.PReLU(8)

        def middle(self, x: Tensor) -> Tensor:
            return self.slope(self.stem_again(x) * self.scale)

        def stem_again(self, x: Tensor) -> Tensor:
            return F.normalize(x, dim=1)

    _, slim, _ = prune(Scaled(), SHAPE, fresh=Scaled)
    assert len(slim.scale) == slim.slope.num_parameters == slim.stem.out_channels


def test_channels_last_layers_prune_their_inner_width(prune: Prune) -> None:
    class Block(Net):
        def __init__(self) -> None:
            super().__init__()
            self.normal, self.up, self.down = nn.LayerNorm(8), nn.Linear(8, 20), nn.Linear(20, 8)

        def middle(self, x: Tensor) -> Tensor:
            y = self.down(F.gelu(self.up(self.normal(x.permute(0, 2, 3, 1)))))
            return x + y.permute(0, 3, 1, 2)

    graph, *_ = prune(Block(), SHAPE, fresh=Block)
    assert widths(graph) == {"up": 20}
    assert "layer norm" in graph.frozen[0].reason


def test_group_norm_loses_whole_groups(prune: Prune) -> None:
    class Grouped(Net):
        def __init__(self) -> None:
            super().__init__(12)
            self.inner = nn.GroupNorm(4, 12)

        def middle(self, x: Tensor) -> Tensor:
            return self.inner(x)

    graph, slim, _ = prune(Grouped(), SHAPE, fresh=Grouped)
    assert widths(graph) == {"stem": 4}
    assert slim.inner.num_channels == 3 * slim.inner.num_groups == slim.stem.out_channels


def test_transposed_convolutions_and_resizing(prune: Prune) -> None:
    class Up(Net):
        def __init__(self) -> None:
            super().__init__(out=6)
            self.up = nn.ConvTranspose2d(8, 6, 2, stride=2)

        def middle(self, x: Tensor) -> Tensor:
            return F.interpolate(self.up(x), scale_factor=2.0, mode="bilinear")

    graph, slim, _ = prune(Up(), SHAPE, fresh=Up)
    assert widths(graph) == {"stem": 8, "up": 6}
    assert (slim.up.in_channels, slim.up.out_channels) == (slim.stem.out_channels, slim.head.in_features)


def test_pixel_shuffle(prune: Prune) -> None:
    class Fine(Net):
        def __init__(self) -> None:
            super().__init__(16, out=4)

        def middle(self, x: Tensor) -> Tensor:
            return F.pixel_shuffle(x, 2)

    graph, slim, _ = prune(Fine(), SHAPE, fresh=Fine)
    assert widths(graph) == {"stem": 4}
    assert slim.stem.out_channels == 4 * slim.head.in_features
