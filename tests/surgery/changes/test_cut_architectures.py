"""Whole networks: the masked model equals the slimmed one, the record replays, the counts agree."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import timm
import torchvision
from torch import nn

from edgecr.models import architecture, build
from edgecr.surgery.tracing.graph import trace_channels

Prune = Callable[..., Any]


def _built(**declared: Any) -> nn.Module:
    return build(architecture(declared), 10)


@pytest.mark.parametrize(
    ("declared", "groups"),
    [
        ({"arch": "resnet20"}, 12),
        ({"arch": "resnet20", "shortcut": "B"}, 12),
        ({"arch": "resnet18_cifar", "width": 0.25}, 12),
        ({"arch": "resnet56_bottleneck", "width": 0.5, "blocks": (1, 2, 2)}, 14),
        ({"arch": "resnext29", "width": 0.25, "blocks": (1, 2, 2)}, 14),
        ({"arch": "wrn16_8", "width": 0.125}, 10),
        ({"arch": "wide_resnet18_2", "width": 0.125}, 12),
        ({"arch": "wide_resnet18_2_preact", "width": 0.125}, 12),
        ({"arch": "densenet22_bc", "blocks": (2, 2, 2)}, 15),
        ({"arch": "vgg16_bn_cifar", "width": 0.125}, 13),
        ({"arch": "conv4", "width": 0.125}, 6),
    ],
)
def test_networks_for_small_images(prune: Prune, declared: dict[str, Any], groups: int) -> None:
    graph, *_ = prune(_built(**declared), (3, 32, 32), fresh=partial(_built, **declared))
    assert len(graph.groups) == groups
    assert graph.unknown == ()


def test_option_a_shortcuts_shrink_with_their_stage(prune: Prune) -> None:
    module = _built(arch="resnet20")
    graph, _, cut = prune(module, (3, 32, 32), sparsity=0.5)
    streams = [group.width for group in graph.groups if len(group.layers) > 1]
    assert sorted(streams) == [16, 16, 32]
    assert {(one.setting) for one in cut.settings} == {"before", "after"}


def test_mobilenet_v1(prune: Prune) -> None:
    declared = {"arch": "mobilenet_v1", "width": 0.5}
    graph, _, cut = prune(_built(**declared), (3, 64, 64), fresh=partial(_built, **declared), sparsity=0.3)
    assert [group.width for group in graph.groups] == [16, 32, 64, 64, 128, 128, *[256] * 6, 512, 512]
    assert all(abs(group.removed - 0.3 * group.width) <= 1 for group in cut.groups)
    assert graph.unknown == ()


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("resnet18", 32),
        ("resnet50", 32),
        ("vgg16_bn", 32),
        ("mnasnet1_0", 32),
        ("mobilenet_v2", 32),
        ("shufflenet_v2_x0_5", 32),
        ("densenet121", 32),
        ("resnext50_32x4d", 32),
        ("regnet_y_400mf", 32),
        ("efficientnet_b0", 32),
        ("convnext_tiny", 32),
        ("squeezenet1_1", 32),
        ("googlenet", 64),
        ("mobilenet_v3_small", 32),
        ("regnet_x_400mf", 32),
    ],
)
def test_torchvision_models(prune: Prune, name: str, pixels: int) -> None:
    options = {"init_weights": False} if name == "googlenet" else {}
    module = torchvision.models.get_model(name, weights=None, num_classes=10, **options)
    graph, *_ = prune(module, (3, pixels, pixels), sparsity=0.3)
    assert graph.unknown == ()


@pytest.mark.parametrize(
    ("name", "pixels", "groups"),
    [
        ("hgnetv2_b0", 64, 30),
        ("ghostnet_100", 64, 31),
        ("mobilenetv4_conv_small", 64, 21),
        ("repghostnet_050", 64, 31),
        ("edgenext_xx_small", 64, 12),
        ("fastvit_t8", 64, 12),
        ("ese_vovnet19b_dw", 64, 23),
        ("resnest14d", 64, 15),
        ("nf_regnet_b0", 64, 16),
        ("levit_128s", 224, 17),
        ("resnetblur18", 64, 12),
        ("mobilevit_xxs", 64, 31),
    ],
)
def test_timm_models(prune: Prune, name: str, pixels: int, groups: int) -> None:
    module = timm.create_model(name, pretrained=False, num_classes=10)
    graph, *_ = prune(module, (3, pixels, pixels), sparsity=0.3)
    assert len(graph.groups) == groups
    assert graph.unknown == ()


def test_transformers_are_pruned_in_their_inner_widths_only() -> None:
    module = torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 24, num_classes=5)
    graph = trace_channels(module, (3, 32, 32))
    assert [group.width for group in graph.groups] == [24, 24]
    assert all("mlp" in group.name for group in graph.groups)
