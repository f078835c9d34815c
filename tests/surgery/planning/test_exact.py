"""The best widths by measured loss equal brute force over all plans, and keep the budget."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from edgecr.core.errors import RequestError
from edgecr.models import architecture, build
from edgecr.surgery.planning import exact
from edgecr.surgery.planning.exact import apart, best_widths
from tests.surgery.conftest import planner_for


def small():
    """Two residual blocks of one stream: the stream decides what the inner groups read."""
    torch.manual_seed(0)
    module = build(architecture({"arch": "resnet20", "width": 0.25}), 4)
    planner = planner_for(module, (3, 8, 8), align="off")
    return module, planner


def few(planner, most=3):
    """At most so many widths of each group, so that brute force ends; a single one of most groups."""
    options = [
        own[[0, len(own) // 2, -1]][:most] if number < 5 else own[-1:]
        for number, own in enumerate(planner.widths.allowed)
    ]
    return [np.unique(own) for own in options]


@pytest.mark.parametrize("figure", ["params", "macs", "size"])
@pytest.mark.parametrize("share", [0.7, 0.85, 1.0])
def test_equals_brute_force(figure, share):
    _, planner = small()
    options, random = few(planner), np.random.default_rng(3)
    worth = [-np.sort(random.exponential(size=len(own)))[::-1] for own in options]
    count = planner.figures[figure]
    amount = int(share * count(planner.cost.widths))
    best = -np.inf
    for places in itertools.product(*(range(len(own)) for own in options)):
        kept = np.array([own[place] for own, place in zip(options, places)])
        if count(kept) <= amount:
            best = max(best, sum(float(own[place]) for own, place in zip(worth, places)))
    found = best_widths(count, amount, options, worth)
    assert found is not None
    assert count(found) <= amount
    got = sum(float(own[np.searchsorted(widths, kept)]) for own, widths, kept in zip(worth, options, found))
    assert got == pytest.approx(best, rel=1e-3)  # costs are rounded up to a thousandth of the budget


def test_groups_that_are_apart_share_no_layer():
    _, planner = small()
    figure, options = planner.figures["macs"], planner.widths.allowed
    inner = apart(figure, options)
    touched = [set(figure.parts.touched(number).tolist()) for number in inner]
    assert sum(map(len, touched)) == len(set().union(*touched))
    assert {planner.graph.groups[number].name for number in range(len(options))} - {
        planner.graph.groups[number].name for number in inner
    } == {"conv1", "layer2.0.conv2", "layer3.0.conv2"} & {group.name for group in planner.graph.groups}


def test_too_many_combinations_are_left_to_the_passes(monkeypatch):
    _, planner = small()
    worth = [-np.arange(len(own), dtype=float)[::-1] for own in planner.widths.allowed]
    monkeypatch.setattr(exact, "MOST", 1)
    assert best_widths(planner.figures["macs"], 10**9, planner.widths.allowed, worth) is None
    planner.worth = worth
    plan = planner.by_budget("measured", {"macs": 0.6})
    assert planner.figure("macs", plan.kept) <= 0.6 * planner.figure("macs", planner.cost.widths)


def test_everything_stays_where_the_budget_allows_it():
    _, planner = small()
    planner.worth = [-np.arange(len(own), dtype=float)[::-1] for own in planner.widths.allowed]
    assert (planner.by_budget("measured", {"macs": 1.0}).kept == planner.cost.widths).all()


def test_without_values_nothing_is_measured():
    planner = planner_for(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.Flatten()), (3, 8, 8))
    with pytest.raises(RequestError, match="run it as a prune step"):
        planner.by_budget("measured", {"macs": 0.6})
