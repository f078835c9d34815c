"""Layers with their input sizes, at any channel counts."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from edgecr.core.errors import UnsupportedModel
from edgecr.latency import LayerConfig
from edgecr.models import architecture, build
from edgecr.surgery.changes.cut import remove
from edgecr.surgery.counters import count
from edgecr.surgery.planning.layers import LayerSizes, configurations, reachable
from edgecr.surgery.planning.plan import Planner
from edgecr.surgery.planning.widths import Limits
from edgecr.surgery.tracing.graph import trace_channels

SHAPE = (3, 32, 32)


def net(name):
    return build(architecture({"arch": name}), 10).eval()


def test_every_detail_of_a_layer_is_seen():
    module = nn.Sequential(
        nn.Conv2d(3, 8, (3, 1), stride=(2, 1), padding=(1, 0)),
        nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )
    assert configurations(module, (3, 9, 7), batch=4) == [
        LayerConfig("conv", 3, 8, 4, 9, 7, (3, 1), (2, 1), (1, 0)),
        LayerConfig("conv", 8, 8, 4, 5, 7, (3, 3), (1, 1), (2, 2), (2, 2), 8),
        LayerConfig("linear", 8, 5, 4),
    ]


@pytest.mark.parametrize("name", ["resnet20", "torchvision:mobilenet_v3_small", "torchvision:shufflenet_v2_x0_5"])
def test_multiply_accumulates_agree_with_the_counters(name):
    module = net(name)
    assert sum(one.macs for one in configurations(module, SHAPE)) == count(module, SHAPE).macs


def test_what_is_no_plain_layer_is_refused():
    with pytest.raises(UnsupportedModel, match="transposed"):
        configurations(nn.ConvTranspose2d(3, 4, 2), SHAPE)


@pytest.mark.parametrize("name", ["resnet20", "torchvision:mobilenet_v2", "torchvision:resnext50_32x4d"])
def test_predicted_sizes_are_the_sizes_after_removal(name):
    module = net(name)
    graph = trace_channels(module, SHAPE)
    sizes = LayerSizes(module, graph)
    values = [np.arange(group.width, dtype=np.float64) for group in graph.groups]
    plan = Planner(graph, sizes.cost, values, Limits("off")).by_sparsity("layer", 0.4)
    slim = copy.deepcopy(module)
    remove(slim, plan.cut())
    assert sizes.configurations(plan.kept) == configurations(slim, SHAPE)
    assert sizes.configurations(sizes.widths) == configurations(module, SHAPE)


def test_reachable_layers_hold_every_plan_of_a_small_net():
    module = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Conv2d(32, 10, 3))
    graph = trace_channels(module, SHAPE)
    sizes = LayerSizes(module, graph)
    found = set(reachable(sizes, Limits(8)))
    for first in (8, 16):
        for second in (8, 16, 24, 32):
            assert set(sizes.configurations(np.array([first, second]))) <= found
    assert len(found) == 2 + 2 * 4 + 4


def test_of_many_combinations_only_the_edges_are_taken():
    module = nn.Sequential(nn.Conv2d(3, 64, 1), nn.ReLU(), nn.Conv2d(64, 64, 1), nn.ReLU(), nn.Conv2d(64, 5, 1))
    sizes = LayerSizes(module, trace_channels(module, SHAPE))
    middle = [one for one in reachable(sizes, Limits(8), most_cells=10) if one.cin != 3 and one.cout != 5]
    assert len(middle) == 8 + 8 - 1
    assert len([one for one in reachable(sizes, Limits(8), most_counts=4) if one.cin == 3]) == 4


def test_the_module_is_left_as_it_was():
    module = net("resnet20").train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    configurations(module, SHAPE)
    assert module.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
