from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from edgecr.models import architecture, build
from edgecr.surgery.repair.structure import Application, Structure, structure


def seen(module: nn.Module, shape: tuple[int, ...] = (3, 16, 16)) -> Structure:
    return structure(module.eval(), torch.randn(2, *shape))


def norms(found: Structure) -> dict[str, str]:
    """The batch norm that alone reads each layer, by their names."""
    places = {use.layer: place.norm for use, place in found.places.items()}
    return {layer: norm.weight.removesuffix(".weight") for layer, norm in places.items() if norm is not None}


def ends(found: Structure) -> set[str]:
    """The layers that can make up for what is added to their branch."""
    return {use.layer for use, place in found.places.items() if place.other is not None}


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_branches_of_cifar_resnets(shortcut: str) -> None:
    found = seen(build(architecture({"arch": "resnet20", "width": 0.25, "shortcut": shortcut}), 3))
    blocks = [f"layer{stage}.{block}" for stage in (1, 2, 3) for block in (0, 1, 2)]
    behind = {f"{block}.conv{n}": f"{block}.bn{n}" for block in blocks for n in (1, 2)} | {"conv1": "bn1"}
    changing = {f"layer{stage}.0.shortcut" for stage in (2, 3)}
    if shortcut == "A":
        assert norms(found) == behind
        assert ends(found) == {f"{block}.conv2" for block in blocks}
    else:  # a shortcut with a layer of its own runs last, so it makes up for the branch
        assert norms(found) == behind | {f"{one}.0": f"{one}.1" for one in changing}
        straight = {f"{block}.conv2" for block in blocks if f"{block}.shortcut" not in changing}
        assert ends(found) == straight | {f"{one}.0" for one in changing}
    assert found.skipped == {}
    assert len(found.uses) == len(behind) + 1 + 2 * (shortcut == "B")


def test_branches_of_torchvisions_resnets() -> None:
    found = seen(torchvision.models.resnet18(num_classes=3), (3, 32, 32))
    assert norms(found)["layer2.0.downsample.0"] == "layer2.0.downsample.1"
    straight = {"layer1.0.conv2", "layer1.1.conv2", *(f"layer{stage}.1.conv2" for stage in (2, 3, 4))}
    assert ends(found) == straight | {f"layer{stage}.0.downsample.0" for stage in (2, 3, 4)}


class Preactivated(nn.Module):
    """Norms in front of the layers; the branches' sums have no norm behind the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 3)
        self.norm1, self.conv1 = nn.BatchNorm2d(8), nn.Conv2d(8, 6, 3, padding=1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(6), nn.Conv2d(6, 8, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.conv1(F.relu(self.norm1(x)))
        x += self.conv2(F.relu(self.norm2(y)))
        return self.head(x.mean((2, 3)))


def test_norms_in_front_of_their_layers() -> None:
    found = seen(Preactivated())
    assert norms(found) == {"conv1": "norm2"}  # the stem's answer is added, too
    assert ends(found) == {"conv2"}
    assert len(found.norms) == 2


class Around(nn.Module):
    """One convolution and one norm, and whatever a test makes of them."""

    def __init__(self, what: Any) -> None:
        super().__init__()
        self.what = what
        self.conv, self.other = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.fixed = nn.BatchNorm2d(4, affine=False)
        self.blind = nn.BatchNorm2d(4, track_running_stats=False)

    def forward(self, x: Tensor) -> Any:
        return self.what(self, x)


@pytest.mark.parametrize(
    "what",
    [
        lambda m, x: m.norm(F.relu(m.conv(x))),
        lambda m, x: m.norm(y := m.conv(x)) + y.mean(),
        lambda m, x: (m.norm(y := m.conv(x)), y),
        lambda m, x: {"features": [y := m.conv(x)], "answer": m.norm(y)},
        lambda m, x: m.norm(m.norm(m.conv(x))),
        lambda m, x: m.norm(m.conv(x)) + m.norm(m.other(x)),
        lambda m, x: m.norm(m.conv(x)) * m.norm.weight.sum(),
        lambda m, x: m.fixed(m.conv(x)),
        lambda m, x: m.blind(m.conv(x)),
        lambda m, x: (
            F.batch_norm(m.conv(x), m.fixed.running_mean, m.fixed.running_var, m.norm.weight)
            + m.norm(x[:, [0, 1, 2, 0]])
        ),
    ],
)
def test_norms_that_have_other_readers_or_other_uses_are_left_alone(what: Any) -> None:
    assert norms(seen(Around(what))) == {}


def test_a_norm_that_alone_reads_a_layer_is_found_through_changes_in_place() -> None:
    found = seen(Around(lambda m, x: F.relu(m.norm(m.conv(x).contiguous()), inplace=True).mul_(2)))
    assert norms(found) == {"conv": "norm"}


@pytest.mark.parametrize(
    ("what", "branches"),
    [
        (lambda m, x: m.other(x) + m.norm(m.conv(x)), {"conv"}),
        (lambda m, x: m.conv(x) + m.other(x), {"other"}),
        (lambda m, x: m.norm(m.conv(x)).add_(m.other(x)), {"other"}),
        (lambda m, x: torch.add(m.other(x), m.conv(x), alpha=0.5), set()),
        (lambda m, x: m.other(x) - m.conv(x), set()),
        (lambda m, x: m.other(x)[:, :, :1, :1] + m.conv(x), set()),
        (lambda m, x: (y := m.conv(x)) + y, set()),
        (lambda m, x: m.other(x) + F.relu(m.conv(x)), set()),
        (lambda m, x: (m.other(x) + (y := m.conv(x)), y), set()),
        (lambda m, x: m.other(x).relu_() + m.conv(x), {"conv"}),
    ],
)
def test_a_branch_ends_in_a_plain_sum(what: Any, branches: set[str]) -> None:
    assert ends(seen(Around(what))) == branches


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (lambda m, x: m.conv(x) + m.conv.weight.sum(), "also read by another operator"),
        (lambda m, x: m.conv(x) + m.conv.weight.view(-1)[0], "also read by another operator"),
        (lambda m, x: m.conv(x) + F.conv2d(x, m.conv.weight), "several biases"),
        (lambda m, x: F.conv_transpose2d(F.conv2d(x, m.other.weight), m.conv.weight), "transposed"),
    ],
)
def test_layers_that_cannot_be_refitted_are_named(what: Any, reason: str) -> None:
    found = seen(Around(what))
    assert list(found.skipped) == ["conv"]
    assert reason in found.skipped["conv"]
    assert all(use.layer != "conv" for use in found.uses.values())


def test_applications_of_one_weight_are_counted_and_its_bias_is_its_own() -> None:
    found = seen(Around(lambda m, x: m.conv(F.relu(m.conv(x))[:, :3])))
    assert list(found.uses.values()) == [Application("conv.weight", 0), Application("conv.weight", 1)]
    assert found.shared("conv.weight")
    assert found.bias_shared == frozenset()


@pytest.mark.parametrize(
    "what",
    [
        lambda m, x: m.conv(x) + F.conv2d(x, m.other.weight, m.conv.bias),
        lambda m, x: m.conv(x) + m.conv.bias.sum(),
    ],
)
def test_a_bias_that_is_read_elsewhere_belongs_to_no_layer_alone(what: Any) -> None:
    assert seen(Around(what)).bias_shared == {"conv.bias"}


def test_depthwise_layers_carry_channels_through() -> None:
    module = nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 12, 3, groups=6), nn.Conv2d(12, 8, 3, groups=4))
    found = seen(module)
    assert [use.layer for use in found.uses.values()] == ["0", "2"]
    assert found.skipped == {}
