from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import nn

from edgecr.core.errors import BudgetError, RequestError
from edgecr.models import architecture, build
from edgecr.surgery.planning.plan import Planner
from edgecr.surgery.planning.widths import Widths, step
from tests.surgery.conftest import planner_for

SHAPE = (3, 32, 32)


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    torch.manual_seed(0)
    return build(architecture({"arch": "resnet20"}), 10)


def chain(*widths: int) -> nn.Module:
    layers = [nn.Conv2d(a, b, 1) for a, b in pairwise((3, *widths))]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], 2, 1))


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.77])
def test_sparsity_is_the_fraction_that_goes(resnet: nn.Module, scope: Any, sparsity: float) -> None:
    planner = planner_for(resnet, SHAPE, align="off")
    kept, widths = planner.by_sparsity(scope, sparsity).kept, planner.cost.widths
    assert widths.sum() - kept.sum() == round(sparsity * int(widths.sum()))
    if scope == "layer":
        assert abs(kept - (1 - sparsity) * widths).max() <= 1


@pytest.mark.parametrize("figure", ["params", "macs"])
@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("align", ["off", "auto"])
@pytest.mark.parametrize("share", [0.8, 0.5, 0.2])
def test_a_budget_is_met_within_one_step(resnet: nn.Module, figure: str, scope: Any, align: str, share: float) -> None:
    planner = planner_for(resnet, SHAPE, align=align)
    kept = planner.by_budget(scope, {figure: share}).kept
    allowed = share * planner.figure(figure, planner.cost.widths)
    assert planner.figure(figure, kept) <= allowed
    assert all(kept >= 1)
    widths = planner.suitable(planner.amounts({figure: share}))
    assert all(count in own for count, own in zip(kept, widths.allowed))
    assert _no_step_fits(planner, widths, kept, figure, allowed)


def _no_step_fits(planner: Planner, steps: Widths, kept: Any, figure: str, allowed: float) -> bool:
    for number, widths in enumerate(steps.allowed):
        for larger in widths[widths > kept[number]][:1]:
            fuller = kept.copy()
            fuller[number] = larger
            if planner.figure(figure, fuller) <= allowed:
                return False
    return True


def test_an_absolute_budget_and_two_at_once(resnet: nn.Module) -> None:
    planner = planner_for(resnet, SHAPE, align="off")
    plan = planner.by_budget("global", {"params": 100_000, "macs": 0.3})
    assert planner.cost.params(plan.kept) <= 100_000
    assert planner.cost.macs(plan.kept) <= 0.3 * planner.cost.macs(planner.cost.widths)


def test_a_budget_out_of_reach_says_the_best(resnet: nn.Module) -> None:
    with pytest.raises(BudgetError, match=r"params: 10 may remain, [\d,]+ is the least"):
        planner_for(resnet, SHAPE).by_budget("layer", {"params": 10})


def test_the_least_important_channels_go_and_ties_go_by_index() -> None:
    module = chain(6)
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor([3.0, 1.0, 2.0, 1.0, 5.0, 1.0]).reshape(6, 1, 1, 1))
    plan = planner_for(module, (3, 4, 4), align="off").by_sparsity("layer", 0.5)
    assert plan.removed[0].tolist() == [1, 3, 5]
    assert planner_for(module, (3, 4, 4), align="off").by_sparsity("layer", 0.3).removed[0].tolist() == [1, 3]


def test_global_ranking_compares_all_layers() -> None:
    module = chain(6, 6)
    with torch.no_grad():
        module[0].weight.fill_(1.0)
        module[1].weight.fill_(0.1)
    kept = planner_for(module, (3, 4, 4), align="off").by_sparsity("global", 0.4).kept
    assert kept.tolist() == [6, 1]  # five of twelve go, all from the weaker layer, which keeps its last one


def test_limits_keep_layers_and_minima() -> None:
    module = chain(16, 16, 16)
    planner = planner_for(module, (3, 4, 4), align="off", exclude=("1",), min_channels=3, min_fraction=0.5)
    assert planner.by_sparsity("layer", 0.5).kept.tolist() == [8, 16, 8]
    with pytest.raises(BudgetError, match="channels: 3 may remain, 16 is the least"):
        planner.by_sparsity("layer", 0.9)
    planner = planner_for(module, (3, 4, 4), align="off", min_channels=3)
    assert planner.by_sparsity("layer", 39 / 48).kept.tolist() == [3, 3, 3]


def test_a_pattern_means_a_layer_or_all_inside_it(resnet: nn.Module) -> None:
    planner = planner_for(resnet, SHAPE, exclude=("*.0.conv1",))
    names = {planner.graph.groups[n].name for n in np.flatnonzero(planner.widths.least == planner.cost.widths)}
    assert {name.rsplit(".", 2)[-2:] == ["0", "conv1"] for name in names} == {True}
    with pytest.raises(RequestError, match="no layer is called 'layr1'"):
        planner_for(resnet, SHAPE, exclude=("layr1",))


@pytest.mark.parametrize(
    ("width", "align", "expected"),
    [(64, "auto", 16), (32, "auto", 8), (16, "auto", 4), (5, "auto", 1), (64, "off", 1), (64, 24, 24)],
)
def test_steps(width: int, align: Literal["auto", "off"] | int, expected: int) -> None:
    planner = planner_for(chain(width), (3, 4, 4))
    assert step(planner.graph.groups[0], align) == expected


def test_aligned_counts_are_multiples_in_channels_of_the_layer() -> None:
    module = nn.Sequential(nn.Conv2d(3, 64, 1), nn.Conv2d(64, 64, 3, groups=16), nn.Conv2d(64, 2, 1))
    planner = planner_for(module, (3, 4, 4), align=16)
    assert planner.graph.groups[0].width == 16
    for sparsity in (0.1, 0.3, 0.6, 0.75):
        assert 4 * planner.by_sparsity("layer", sparsity).kept[0] % 16 == 0


def test_automatic_widths_reach_far_down() -> None:
    planner = planner_for(chain(64, 24), (3, 4, 4))
    wide, narrow = (allowed.tolist() for allowed in planner.widths.allowed)
    assert wide == [1, 2, 4, 8, 16, 32, 48, 64]
    assert narrow == [1, 2, 4, 8, 16, 24]


def test_automatic_alignment_leaves_whole_blocks_where_they_allow_the_sparsity() -> None:
    planner = planner_for(chain(96, 16, 32, 24, 64, 160), (3, 4, 4))
    for sparsity in (0.1, 0.3, 0.5):
        kept = planner.by_sparsity("layer", sparsity).kept
        assert (kept % 16 == 0)[kept < planner.cost.widths].all()
    assert planner.by_sparsity("layer", 0.3).kept.tolist() == [64, 16, 16, 16, 48, 112]


@pytest.mark.parametrize("sparsity", [0.1, 0.2, 0.4, 0.6, 0.75])
def test_automatic_alignment_follows_the_request_in_every_layer_too(resnet: nn.Module, sparsity: float) -> None:
    planner = planner_for(resnet, SHAPE)
    kept, widths = planner.by_sparsity("layer", sparsity).kept, planner.cost.widths
    gone = 1 - kept.sum() / widths.sum()
    assert sparsity - 0.002 <= gone <= sparsity + 0.03
    assert all(count in allowed for count, allowed in zip(kept, planner.widths.allowed))


def test_automatic_alignment_divides_blocks_where_nothing_else_can_go() -> None:
    planner = planner_for(chain(16, 16, 8), (3, 4, 4))
    assert planner.by_sparsity("layer", 0.5).kept.tolist() == [8, 8, 4]


def test_automatic_alignment_divides_blocks_when_a_budget_leaves_no_choice() -> None:
    planner = planner_for(chain(64, 16, 16, 16, 16), (3, 4, 4))
    whole, divided = ({"channels": share} for share in (0.75, 0.6))  # 48 of 128 channels can go in whole blocks
    assert planner.suitable(planner.amounts(whole)) is planner.blocks
    assert planner.suitable(planner.amounts(divided)) is planner.widths
    assert planner.by_budget("global", whole).kept.tolist() == [32, 16, 16, 16, 16]


def test_numbers_and_off_know_no_blocks() -> None:
    for align in ("off", 8):
        planner = planner_for(chain(64, 24), (3, 4, 4), align=align)
        assert planner.blocks is planner.widths


def test_more_removal_never_keeps_more(resnet: nn.Module) -> None:
    planner = planner_for(resnet, SHAPE)
    for scope in ("layer", "global"):
        kept = [planner.widths.aligned(planner.wished(scope, n / 60)) for n in range(61)]  # type: ignore[arg-type]
        assert all((after <= before).all() for before, after in pairwise(kept))
