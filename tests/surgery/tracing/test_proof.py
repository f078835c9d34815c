"""Models whose code fixes sizes are pruned in the parts that can be, and the rest is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from edgecr.core.errors import UnsupportedModel
from edgecr.methods.prune.while_training import masks_of
from edgecr.surgery.carry_out import Pruned, prune_channels
from edgecr.surgery.counters import count
from edgecr.surgery.planning.cost import Cost
from edgecr.surgery.planning.plan import Plan, Planner
from edgecr.surgery.planning.widths import Limits
from edgecr.surgery.scoring.scores import ScoringInputs, scores
from edgecr.surgery.tracing.explain import explain
from edgecr.surgery.tracing.graph import trace_channels
from tests.surgery.conftest import disturbed
from tests.surgery.networks import Blurred, HardView, Learnt, Recurrent

Prune = Callable[..., Any]
SHAPE = (3, 8, 8)


def half(planner: Planner) -> Plan:
    return planner.by_sparsity("layer", 0.5)


def pruned(module: nn.Module) -> Pruned:
    return prune_channels(SHAPE, scores.get("l2"), ScoringInputs(disturbed(module)), Limits("off"), half)


def test_a_view_of_fixed_size_keeps_only_the_layer_in_front_of_it() -> None:
    found = pruned(HardView())
    assert [group.name for group in found.graph.groups] == ["one", "three"]
    (kept,) = found.graph.withheld
    assert (kept.layer, kept.channels) == ("two", 16)
    assert "the model's code needs all of them" in kept.reason
    assert "fails" in kept.reason
    sizes = {name: tuple(tensor.shape) for name, tensor in found.module.state_dict().items()}
    assert (sizes["one.weight"][0], sizes["two.weight"][0], sizes["three.weight"]) == (3, 16, (6, 64))


def test_questions_about_groups_know_what_fails_too() -> None:
    rows = {row.name: row for row in explain(disturbed(HardView()), SHAPE)}
    assert [name for name, row in rows.items() if row.removable] == ["one", "three"]
    assert "the model's code needs all of them" in rows["two"].why[0]


def test_a_model_of_fixed_sizes_only_is_refused_by_the_layer() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.only, self.head = nn.Conv2d(3, 4, 1), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.only(x).mean((2, 3)).view(-1, 4))

    with pytest.raises(UnsupportedModel, match="only: the model's code needs all of them"):
        pruned(Fixed())


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_layers_in_front_of_recurrent_ones_are_pruned(prune: Prune, kind: str) -> None:
    def fresh() -> nn.Module:
        return Recurrent(kind=kind)

    graph, slim, _ = prune(fresh(), SHAPE, fresh=fresh)
    assert [group.name for group in graph.groups] == ["one", "two"]
    assert slim.steps.input_size == slim.two.out_channels * 4 < 40
    assert any(frozen.layer == "steps" for frozen in graph.frozen)


@pytest.mark.parametrize("says", ["channels", "shape"])
def test_fixed_filters_follow_the_channels_that_they_filter(prune: Prune, says: str) -> None:
    graph, slim, _ = prune(Blurred(says=says), SHAPE, fresh=lambda: Blurred(says=says))
    assert [(group.name, group.layers) for group in graph.groups] == [("one", ("one",)), ("two", ("two",))]
    assert len(slim.blur.kernel) == slim.one.out_channels < 8
    assert slim.mix.shape == (6, slim.two.out_channels, 1, 1)
    assert len(slim.edges) == 4


def test_a_filter_for_a_fixed_number_of_channels_keeps_them() -> None:
    found = pruned(Blurred(says="number"))
    assert [one.layer for one in found.graph.withheld] == ["one"]
    assert [group.name for group in found.graph.groups] == ["two"]


def test_fixed_filters_are_work_but_no_parameters() -> None:
    module = Blurred()
    cost, counted = Cost(module, trace_channels(module, SHAPE)), count(module, SHAPE)
    assert (cost.params(cost.widths), cost.macs(cost.widths)) == (counted.params, counted.macs)


def test_computed_weights_are_work_that_stays() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 1)),
        nn.Conv2d(8, 4, 1),
        nn.Conv2d(4, 2, 1),
    )
    cost, counted = Cost(module, trace_channels(module, SHAPE)), count(module, SHAPE)
    assert cost.macs(cost.widths) == counted.macs


def test_channels_behind_a_learned_offset_go(prune: Prune) -> None:
    graph, _, cut = prune(Learnt(), SHAPE, fresh=Learnt)
    assert [group.name for group in graph.groups] == ["one", "two"]
    assert [one.tensor for one in cut.tensors if one.closes] == ["two.weight", "head.weight"]


def test_masks_of_a_training_close_what_reads_constants() -> None:
    found = pruned(Learnt())
    masks = masks_of(Learnt().named_parameters(), found.cut)
    assert set(masks) == {"one.weight", "one.bias", "two.weight", "two.bias", "head.weight"}
    gone = ~masks["one.bias"]
    assert gone.sum() == 4
    assert not masks["two.weight"][:, gone].any()
    assert not masks["head.weight"][:, ~masks["two.bias"]].any()


@pytest.mark.parametrize("demand", [lambda width: width % 4 == 0, lambda width: width >= 6], ids=["fours", "six"])
def test_demands_on_a_width_are_found_by_few_and_by_many_channels_less(demand: Callable[[int], bool]) -> None:
    class Demanding(Learnt):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if not demand(self.one.weight.shape[0]):
                raise ValueError("I want my channels")
            return super().forward(x)

    def less(planner: Planner) -> Plan:
        return planner.by_sparsity("layer", 0.4)

    found = prune_channels(SHAPE, scores.get("l2"), ScoringInputs(disturbed(Demanding())), Limits("off"), less)
    assert [one.layer for one in found.graph.withheld] == ["one"]
    assert "I want my channels" in found.graph.withheld[0].reason
    assert found.module.get_parameter("two.weight").shape[:2] == (4, 8)
