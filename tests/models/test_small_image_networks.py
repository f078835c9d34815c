"""Networks for 32x32 images: properties that no count of parameters or of work can tell."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import relu

from edgecr.core.errors import UnsupportedModel
from edgecr.models import architecture, build
from edgecr.models.wide_resnet_module import PreActBlock
from edgecr.surgery.counters import count


def built(**declared: Any) -> nn.Module:
    torch.manual_seed(0)
    return build(architecture(declared), 10).eval().requires_grad_(False)


@pytest.mark.parametrize(("arch", "activated"), [("wrn16_8", False), ("wide_resnet18_2_preact", True)])
def test_blocks_add_their_input_before_or_behind_its_rectifier(arch: str, activated: bool) -> None:
    first, last = built(arch=arch, width=0.125).stages[-1]
    assert isinstance(last, PreActBlock)
    x = torch.randn(2, last.conv1.in_channels, 4, 4)
    nn.init.zeros_(last.conv2.weight)
    torch.testing.assert_close(last(x), relu(last.bn1(x)) if activated else x)
    nn.init.zeros_(first.conv2.weight)
    x = torch.randn(2, first.conv1.in_channels, 4, 4)
    torch.testing.assert_close(first(x), first.shortcut(relu(first.bn1(x))))


def test_binary_cards_learn_convolutions_alone() -> None:
    module = built(arch="wide_resnet18_2_preact", width=0.125)
    weights = {f"{name}.weight" for name, part in module.named_modules() if isinstance(part, nn.Conv2d)}
    assert {name for name, _ in module.named_parameters()} == weights


def test_the_wide_resnet_is_the_usual_one_of_twice_the_width() -> None:
    one, other = built(arch="wide_resnet18_2", width=0.125), built(arch="resnet18_cifar", width=0.25)
    other.load_state_dict(one.state_dict())
    image = torch.randn(2, 3, 32, 32)
    assert torch.equal(one(image), other(image))


def test_resnext_groups_its_3x3_convolutions() -> None:
    module = built(arch="resnext29", width=0.3)
    inner = [part for part in module.modules() if isinstance(part, nn.Conv2d) and part.groups > 1]
    assert [part.groups for part in inner] == [4] * 9
    assert [part.out_channels for part in inner[::3]] == [40, 76, 152]
    assert module.conv1.out_channels == 20


def test_dense_layers_put_their_channels_behind_their_input() -> None:
    layer = built(arch="densenet22_bc").blocks[0][0]
    x = torch.randn(1, 24, 8, 8)
    out = layer(x)
    assert out.shape == (1, 36, 8, 8)
    assert torch.equal(out[:, :24], x)


def test_plain_networks_have_no_offsets_at_all() -> None:
    module = built(arch="conv4", width=0.125)
    image = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(module(3 * image), 3 * module(image))
    assert not module(torch.zeros(1, 3, 32, 32)).any()


def test_plain_networks_keep_the_size_of_what_passes() -> None:
    out = built(arch="conv8")(torch.randn(8, 3, 32, 32))
    assert 0.05 < float(out.std()) < 20


def test_plain_networks_name_the_size_of_their_images() -> None:
    with pytest.raises(UnsupportedModel, match=r"3x64x64.*for images of 32x32"):
        count(built(arch="conv2", width=0.125), (3, 64, 64))
