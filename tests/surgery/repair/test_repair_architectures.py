"""Whole networks: a repair brings the cut model nearer to the whole one, and names the layers that it leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from edgecr.models import architecture, build
from tests.surgery import networks
from tests.surgery.repair.cutting import cut, error, images, repaired, without

OTHER_LAYER = "no convolution or linear layer"


class Grouped(networks.Net):
    """A grouped convolution whose groups lose channels inside, and a depthwise one."""

    def __init__(self) -> None:
        super().__init__(16, out=12)
        self.mix = nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.deep, self.point = nn.Conv2d(16, 16, 3, groups=16), nn.Conv2d(16, 12, 1)

    def middle(self, x: Tensor) -> Tensor:
        return F.relu(self.point(F.relu(self.deep(F.relu(self.mix(x))))))


class Shared(networks.Net):
    """One module applied twice, and one weight held by two modules."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.one, self.two = (nn.Conv2d(8, 8, 3, padding=1) for _ in range(3))
        self.two.weight = self.one.weight

    def middle(self, x: Tensor) -> Tensor:
        x = F.relu(self.twice(F.relu(self.twice(x))))
        return F.relu(self.two(F.relu(self.one(x))))


class Joined(networks.Net):
    """Concatenation, and a gate of squeeze and excite."""

    def __init__(self) -> None:
        super().__init__(8, out=12)
        self.left, self.right = nn.Conv2d(8, 6, 1), nn.Conv2d(8, 6, 3, padding=1)
        self.squeeze, self.excite = nn.Conv2d(12, 6, 1), nn.Conv2d(6, 12, 1)

    def middle(self, x: Tensor) -> Tensor:
        x = F.relu(torch.cat([self.left(x), self.right(x)], 1))
        gate = self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True))))
        return x * torch.sigmoid(gate)


class Upwards(networks.Net):
    """A transposed convolution between two others."""

    def __init__(self) -> None:
        super().__init__(8, out=6)
        self.up, self.last = nn.ConvTranspose2d(8, 8, 2, stride=2), nn.Conv2d(8, 6, 3)

    def middle(self, x: Tensor) -> Tensor:
        return F.relu(self.last(F.relu(self.up(x))))


class Functional(nn.Module):
    """Layers that are functions of parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Parameter(torch.randn(8, 3, 3, 3) / 5), nn.Parameter(torch.randn(6, 8, 3, 3) / 8)
        self.bias, self.head = nn.Parameter(torch.randn(6)), nn.Parameter(torch.randn(5, 6))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.conv2d(F.relu(F.conv2d(x, self.one)), self.two, self.bias))
        return x.mean((2, 3)) @ self.head.t()


class Tokens(nn.Module):
    """Channel mixing and token mixing by linear layers, without any norm of layers."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.head = nn.Conv2d(3, 12, 4, stride=4), nn.Linear(12, 5)
        self.up, self.down = nn.Linear(12, 24), nn.Linear(24, 12)
        self.along, self.back = nn.Linear(4, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = x + self.down(F.gelu(self.up(x)))
        x = x + self.back(F.gelu(self.along(x.transpose(1, 2)))).transpose(1, 2)
        return self.head(x.mean(1))


def line() -> nn.Module:
    layers = [nn.Conv1d(3, 12, 5, stride=2), nn.BatchNorm1d(12), nn.ReLU(), nn.Conv1d(12, 10, 3, dilation=2), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(10, 5))


def volume() -> nn.Module:
    layers = [nn.Conv3d(3, 12, 3), nn.BatchNorm3d(12), nn.ReLU(), nn.Conv3d(12, 8, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool3d(2), nn.Flatten(), nn.Linear(64, 5))


def small_densenet() -> nn.Module:
    return torchvision.models.DenseNet(8, (2, 2), 16, num_classes=5)


def check(module: nn.Module, shape: tuple[int, ...], sparsity: float = 0.4, part: float = 0.8) -> dict[str, str]:
    """No layer errs more on the sample than it would without its refit, and the model less. Returns what is skipped."""
    made, parts = cut(module, shape, sparsity), images(shape)
    slim, done = repaired(made, shape, images=parts, positions=16, ridge=0.1)
    assert done.layers
    assert all(0 <= one.after <= one.before for one in done.layers)
    assert all(torch.isfinite(tensor).all() for tensor in slim.state_dict().values())
    assert error(made.dense, slim, parts) < part * error(made.dense, made.slim, parts)
    return dict(done.skipped)


@pytest.mark.parametrize(
    "make",
    [
        Grouped,
        Joined,
        Functional,
        Tokens,
        small_densenet,
        networks.HardView,
        networks.HardReshape,
        networks.Blurred,
        networks.WideGroups,
        networks.Learnt,
    ],
)
def test_networks_with_nothing_to_skip(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    assert check(make(), (3, 8, 8)) == {}


def test_shared_layers_are_refitted_unless_their_applications_have_biases_of_their_own() -> None:
    torch.manual_seed(0)
    assert check(Shared(), (3, 8, 8)) == {"one": "it is applied with several biases"}


def test_transposed_convolutions_are_skipped_and_named() -> None:
    torch.manual_seed(0)
    assert check(Upwards(), (3, 8, 8)) == {"up": "transposed convolutions are not refitted"}


@pytest.mark.parametrize(("kind", "named"), [("LSTM", True), ("GRU", False), ("RNN", False)])
def test_recurrent_layers_are_refitted_or_named(kind: str, named: bool) -> None:
    torch.manual_seed(0)
    skipped = check(networks.Recurrent(kind=kind), (3, 8, 8), part=1.0)
    assert {name for name, why in skipped.items() if OTHER_LAYER in why} == (
        {"steps.weight_ih_l0", "steps.weight_ih_l0_reverse"} if named else set()
    )


@pytest.mark.parametrize(("make", "shape"), [(line, (3, 32)), (volume, (3, 6, 6, 6))])
def test_one_and_three_dimensions(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    assert check(make(), shape) == {}


@pytest.mark.parametrize(
    "declared",
    [
        {"arch": "resnet20", "width": 0.5},
        {"arch": "resnet20", "width": 0.5, "shortcut": "B"},
        {"arch": "mobilenet_v1", "width": 0.25},
    ],
)
def test_own_networks(declared: dict[str, Any]) -> None:
    torch.manual_seed(0)
    assert check(build(architecture(declared), 5), (3, 32, 32), 0.3) == {}


@pytest.mark.parametrize(
    ("name", "pixels"), [("shufflenet_v2_x0_5", 32), ("efficientnet_b0", 32), ("squeezenet1_1", 32), ("resnet18", 32)]
)
def test_torchvision_networks(name: str, pixels: int) -> None:
    torch.manual_seed(0)
    assert check(torchvision.models.get_model(name, weights=None, num_classes=5), (3, pixels, pixels), 0.3) == {}


@pytest.mark.parametrize(
    "make", [Grouped, Shared, Joined, Upwards, Functional, Tokens, small_densenet, networks.Recurrent]
)
def test_where_nothing_was_removed_every_tensor_stays_to_the_bit(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    made = without(make())
    slim, done = repaired(made, (3, 8, 8))
    assert done.layers == ()
    before, after = made.dense.state_dict(), slim.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_depthwise_layer_of_which_one_channel_is_left_is_still_none_to_refit() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, groups=4), nn.ReLU(), nn.Conv2d(4, 5, 1))
    names = ("0.weight", "0.bias", "1.weight", "1.bias")
    made = without(module, *((name, 0, "1-3", "out") for name in names), ("3.weight", 1, "1-3", "in"))
    made.slim[1].groups = 1  # type: ignore[index]
    slim, done = repaired(made, (3, 8, 8))
    assert [one.layer for one in done.layers] == ["3"]
    assert done.skipped == {}
    assert torch.equal(slim[1].weight, made.slim[1].weight)  # type: ignore[index]
