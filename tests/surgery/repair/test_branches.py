"""Residual branches that may go: found by what blocks do, and gone from the architecture when replayed."""

import copy

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

from edgecr.core.errors import UnsupportedModel
from edgecr.models import architecture, build
from edgecr.surgery.changes import BlockDrop, read_change, replay
from edgecr.surgery.counters import count
from edgecr.surgery.repair.branches import branches
from tests.surgery.conftest import disturbed

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def names(module, images=IMAGES):
    return [branch.block for branch in branches(disturbed(module), images)]


def test_blocks_with_a_plain_shortcut_are_found():
    torch.manual_seed(0)
    assert names(build(architecture({"arch": "resnet20"}), 10)) == [
        "layer1.0", "layer1.1", "layer1.2", "layer2.1", "layer2.2", "layer3.1", "layer3.2",
    ]  # fmt: skip
    assert names(torchvision.models.resnet18(num_classes=4)) == [
        "layer1.0",
        "layer1.1",
        "layer2.1",
        "layer3.1",
        "layer4.1",
    ]
    assert names(torchvision.models.mobilenet_v2(num_classes=4))[:3] == ["features.3", "features.5", "features.6"]


class Block(nn.Module):
    """A block whose stream may be negative when it comes in, so that the activation behind the sum changes it."""

    def __init__(self, activation) -> None:
        super().__init__()
        self.conv, self.norm, self.activation = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), activation

    def forward(self, x):
        return self.activation(x + self.norm(self.conv(x)))


@pytest.mark.parametrize(("activation", "found"), [(functional.relu, []), (lambda x: x, ["1"])])
def test_an_activation_that_changes_the_stream_keeps_the_block(activation, found):
    module = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), Block(activation), nn.Flatten())
    assert names(module) == found


class Inplace(Block):
    """A block that changes its input in place, which is then what it adds to."""

    def forward(self, x):
        return x + self.norm(self.conv(functional.relu_(x)))


def test_a_block_that_changes_its_input_in_place_keeps_its_activation():
    assert names(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), Inplace(None), nn.Flatten())) == []


def test_finding_leaves_the_module_as_it_was():
    module = disturbed(torchvision.models.resnet18(num_classes=4))
    before = copy.deepcopy(module.state_dict())
    branches(module, IMAGES)
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in before.items())


def test_a_dropped_block_is_gone_and_the_rest_answers_as_with_a_silent_branch():
    module = disturbed(torchvision.models.resnet18(num_classes=4)).eval()
    silent = copy.deepcopy(module)
    with torch.no_grad():
        silent.layer2[1].bn2.weight.zero_()
        silent.layer2[1].bn2.bias.zero_()
        expected = silent(IMAGES)
    drop = read_change(BlockDrop(block="layer2.1").plain())
    replay(module, [drop])
    with torch.no_grad():
        assert torch.allclose(module(IMAGES), expected, atol=1e-6)
    dense = count(torchvision.models.resnet18(num_classes=4), (3, 32, 32))
    assert len(count(module, (3, 32, 32)).layers) == len(dense.layers) - 2


def test_a_block_that_is_not_there_is_named():
    with pytest.raises(UnsupportedModel, match=r"no block 'layer9.1'"):
        BlockDrop(block="layer9.1").replay(torchvision.models.resnet18())


class Scaled(Block):
    """A block that knows a factor of its own."""

    def __init__(self) -> None:
        super().__init__(lambda x: x)
        self.scale = 1.0

    def forward(self, x, scale=1.0):
        return super().forward(x) * scale


class LooksInto(nn.Module):
    """Three blocks, of which the code may want more than an answer to one input."""

    def __init__(self, call) -> None:
        super().__init__()
        self.stem, self.call = nn.Conv2d(3, 8, 3, padding=1), call
        self.blocks = nn.ModuleList(Scaled() for _ in range(3))

    def forward(self, x):
        x = self.stem(x)
        for number, block in enumerate(self.blocks):
            x = self.call(block, x) if number == 1 else block(x)
        return x.mean((2, 3))


@pytest.mark.parametrize(
    "call",
    [
        lambda b, x: b(x) * b.scale,
        lambda b, x: b(x, scale=1.0),
        lambda b, x: b(x) + 0 * b.norm.weight.sum(),
        lambda b, x: b(x) * (1 if isinstance(b, Scaled) else 2),
    ],
)
def test_a_block_that_other_code_looks_into_stays(call):
    torch.manual_seed(0)
    module = LooksInto(call)
    assert names(module) == ["blocks.0", "blocks.2"]
    assert isinstance(module.blocks[1], Scaled)


def test_a_block_that_changes_its_input_by_little_stays():
    def slightly(x):
        return x * 1.001

    assert names(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), Block(slightly), nn.Flatten())) == []


def test_the_smallest_module_that_is_an_identity_without_the_branch_is_the_block():
    inner = nn.Sequential(nn.Sequential(Block(lambda x: x)))
    assert names(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), inner, nn.Flatten())) == ["1.0.0"]
