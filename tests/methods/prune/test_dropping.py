"""Plans without some residual blocks, for losses that are given: no images, nothing measured."""

import numpy as np
import pytest

from edgecr.core.errors import BudgetError, RequestError
from edgecr.methods.prune import dropping
from edgecr.methods.prune.dropping import PATIENCE, Dropping
from edgecr.surgery.planning.cost import Cost
from edgecr.surgery.planning.plan import Planner
from edgecr.surgery.planning.widths import Limits
from edgecr.surgery.repair.branches import Branch
from edgecr.surgery.tracing.graph import trace_channels
from tests.workplace import subject

BLOCKS = {"layer1.0": 0.3, "layer1.1": 0.1, "layer2.1": 0.02, "layer2.2": 0.2, "layer3.1": 0.4, "layer3.2": 0.6}
LOSS = 9.0
"""The loss of a group at its least width: channels are dear."""


def choice_of(blocks=BLOCKS, **limits):
    given, limits = subject(), Limits(**{"align": 8} | limits)
    graph = trace_channels(given.module, given.input_shape)
    whole = Planner(graph, Cost(given.module, graph), [np.arange(float(g.width)) for g in graph.groups], limits)
    whole.worth = [np.linspace(-LOSS, 0, len(own)) if len(own) > 1 else np.zeros(1) for own in whole.widths.allowed]
    return Dropping(given, limits, whole, [Branch(name, (), 0) for name in blocks], list(blocks.values()))


def dropped(share=0.7, blocks=BLOCKS, **limits):
    one = choice_of(blocks, **limits)
    left = int(share * one.whole.figure("macs", one.whole.cost.widths))
    choice, plan = one.best(lambda planner: planner.by_budget("measured", {"macs": left}))
    assert choice.planner.figure("macs", plan.kept) <= left
    return choice, {drop.block for drop in choice.drops}


def test_a_block_that_holds_an_excluded_layer_stays():
    assert "layer2.1" in dropped()[1]
    assert "layer2.1" not in dropped(exclude=("layer2.1.conv1",))[1]
    choice, gone = dropped(0.8, exclude=("layer2.*",))
    assert gone
    assert not [name for name in gone if name.startswith("layer2")]
    assert choice.loss == pytest.approx(sum(BLOCKS[name] for name in gone))


def test_layers_of_all_blocks_that_could_go_may_be_excluded():
    assert dropped(0.97, exclude=tuple(BLOCKS))[1] == set()


def test_a_pattern_that_names_nothing_is_refused_in_the_whole_model():
    with pytest.raises(RequestError, match="no layer is called"):
        choice_of(exclude=("layer9",))


def test_floors_speak_of_layers_that_remain_and_blocks_alone_may_meet_a_budget():
    choice, gone = dropped(0.7, min_fraction=1.0)
    assert gone
    assert not choice.planner.allowed.removable
    with pytest.raises(BudgetError, match="removing channels and 6 residual blocks: macs"):
        dropped(0.01, min_fraction=1.0)
    with pytest.raises(BudgetError, match="No channel may go"):
        dropped(0.7, {}, min_fraction=1.0)


def test_no_more_plans_are_prepared_than_are_looked_at(monkeypatch):
    asked, trace = [], dropping.trace_channels
    monkeypatch.setattr(dropping, "trace_channels", lambda *given: (asked.append(1), trace(*given))[1])
    one = choice_of(dict.fromkeys(BLOCKS, 100.0))
    for _ in range(2):  # a search for a latency asks again
        one.best(lambda planner: planner.by_budget("measured", {"macs": 0.9}))
    assert len(asked) == PATIENCE < len(BLOCKS)


def test_a_block_around_one_that_went_replaces_it_and_one_inside_is_skipped():
    outer_first = choice_of({"layer1": 0.0, "layer1.1": 0.1, "layer1.2": 0.1})
    outer_last = choice_of({"layer1": 9.0, "layer1.1": 0.1})
    for one, expected in (
        (outer_first, [((), 0), (("layer1",), 0)]),
        (outer_last, [((), 0), (("layer1.1",), 0.1), (("layer1",), 9.0)]),
    ):
        found = [(tuple(drop.block for drop in each.drops), each.loss) for each in one._choices()]
        assert found == expected
