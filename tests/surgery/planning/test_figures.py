"""Figures updated for one changed group equal the figures computed anew."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgecr.latency import Calibration, CalibrationPoint
from edgecr.models import architecture, build
from edgecr.surgery.carry_out import carried_out
from edgecr.surgery.counters import count
from edgecr.surgery.planning.amounts import LATENCY
from edgecr.surgery.planning.latency_figure import latency_figure
from edgecr.surgery.planning.layers import LayerSizes, reachable
from edgecr.surgery.planning.plan import Planner
from tests.surgery.conftest import planner_for
from tests.surgery.networks import Blurred
from tests.surgery.planning.test_latency import empty_table, measure, nanoseconds

SHAPE = (3, 64, 64)
NETWORKS = ("resnet18", "resnext50_32x4d", "regnet_y_400mf", "densenet121", "googlenet", "shufflenet_v2_x0_5")
FIGURES = ("params", "macs", "size", "channels", LATENCY)


class Reused(nn.Module):
    """A layer that runs twice, one that stays whole, and one whose weight is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 4, 1)
        self.made = nn.Parameter(torch.rand(4, 4, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.again(self.again(self.first(x).relu()).relu()).relu()
        return torch.conv2d(self.last(inner).relu(), self.made * 2)


def planner_of(name: str) -> Planner:
    torch.manual_seed(0)
    module = Reused().eval() if name == "reused" else build(architecture({"arch": f"torchvision:{name}"}), 10).eval()
    planner = planner_for(module, SHAPE)
    sizes = LayerSizes(module, planner.graph)
    planner.figures[LATENCY] = latency_figure(sizes, measure(empty_table(), sizes.configurations(sizes.widths)))
    return planner


def grown(planner: Planner, kept: np.ndarray) -> None:
    """Has everything measured that some widths lead to."""
    sizes = LayerSizes(planner.cost.module, planner.graph)
    table = planner.figures[LATENCY].parts.table
    planner.figures[LATENCY] = latency_figure(sizes, measure(table, table.missing(sizes.configurations(kept))))


@pytest.mark.parametrize("name", ["reused", *NETWORKS])
def test_one_group_after_the_other_adds_up_to_all_of_them(name: str) -> None:
    planner, random = planner_of(name), np.random.default_rng(0)
    allowed, kept = planner.widths.allowed, planner.cost.widths.copy()
    for number in [*random.permutation(len(allowed))[:5]] * 2:  # the second time, none of them is whole any more
        width = int(random.choice(allowed[number]))
        after = kept.copy()
        after[number] = width
        grown(planner, after)
        for figure in (planner.figures[one] for one in FIGURES):
            assert figure.change(kept, number, width) == figure(after) - figure(kept), figure.name
            own = figure.parts(after)[figure.owners == number].sum()
            assert figure.charges(kept, number, np.array([width])).tolist() == [own], figure.name
        kept = after


@pytest.mark.parametrize("name", ["reused", *NETWORKS])
def test_only_what_a_group_touches_changes(name: str) -> None:
    planner = planner_of(name)
    dense = planner.cost.widths
    for number in range(0, len(dense), 5):
        after = dense.copy()
        after[number] = planner.widths.allowed[number][0]
        grown(planner, after)
        for figure in (planner.figures[one] for one in FIGURES):
            changed = np.flatnonzero(figure.parts(after) != figure.parts(dense))
            assert set(changed) <= set(figure.parts.touched(number)), figure.name


def test_the_latency_of_measured_layers_is_theirs() -> None:
    planner = planner_of("regnet_y_400mf")
    kept = np.array([widths[len(widths) // 2] for widths in planner.widths.allowed])
    grown(planner, kept)
    sizes = LayerSizes(planner.cost.module, planner.graph)
    assert planner.figures[LATENCY].parts(kept).tolist() == list(map(nanoseconds, sizes.configurations(kept)))


@pytest.mark.parametrize("name", ["resnext50_32x4d", "googlenet"])
def test_a_calibration_weighs_each_layer(name: str) -> None:
    planner = planner_of(name)
    sizes = LayerSizes(planner.cost.module, planner.graph)
    layers = sizes.configurations(sizes.widths)
    table = planner.figures[LATENCY].parts.table
    slower = CalibrationPoint(model="m", sums=table.sums(layers), measured_ms=1.4 * table.sums(layers).ms)
    taught = table.calibrated([slower])
    expected = [round(taught.network_latency([one]).ms * 1e6) for one in layers]
    assert latency_figure(sizes, taught).parts(sizes.widths).tolist() == expected
    assert sum(expected) == pytest.approx(1.4e6 * table.sums(layers).ms, rel=0.02)


def test_no_layer_takes_less_than_nothing() -> None:
    planner = planner_of("resnet18")
    sizes = LayerSizes(planner.cost.module, planner.graph)
    table = planner.figures[LATENCY].parts.table
    below = table.model_copy(update={"calibration": Calibration(per_layer_ms=-1e6)})
    assert latency_figure(sizes, below)(sizes.widths) == 0


def test_layers_that_plans_can_lead_to_follow_each_group_alone() -> None:
    planner = planner_of("regnet_y_400mf")
    sizes, found = LayerSizes(planner.cost.module, planner.graph), set()
    for number, widths in enumerate(planner.widths.allowed):
        for width in widths:
            kept = sizes.widths.copy()
            kept[number] = width
            found.update(sizes.configurations(kept))
    assert found <= set(reachable(sizes, planner.limits, most_counts=10_000, most_cells=0))


class FixedStem(nn.Module):
    """A large fixed filter bank in front of a few parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bank", torch.randn(64, 3, 7, 7))
        self.one, self.two, self.head = nn.Conv2d(64, 16, 1), nn.Conv2d(16, 24, 3), nn.Linear(24, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.conv2d(x, self.bank, stride=2, padding=3)
        return self.head(self.two(self.one(x).relu()).relu().mean((2, 3)))


def filters(module: nn.Module) -> int:
    return sum(buffer.numel() for buffer in module.buffers() if buffer.dim() == 4)


@pytest.mark.parametrize("network", [Blurred, FixedStem])
def test_a_fixed_filter_is_no_parameter_but_takes_room_in_the_file(network: type[nn.Module]) -> None:
    torch.manual_seed(0)
    module, shape = network().eval(), (3, 24, 24)
    planner = planner_for(module, shape)
    plan = planner.by_budget("global", {"params": 0.6})
    whole, slim = count(module, shape), carried_out(module, plan).module
    left = count(slim, shape)
    assert planner.amounts({"params": 0.6}) == {"params": int(0.6 * whole.params)}
    assert left.params <= 0.6 * whole.params < whole.params
    for kept, of, now in ((planner.cost.widths, module, whole), (plan.kept, slim, left)):
        assert planner.figure("params", kept) == now.params
        assert planner.figure("size", kept) == 4 * (now.params + filters(of))
        assert planner.figure("macs", kept) == now.macs
