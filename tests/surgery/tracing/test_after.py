"""Groups keep their names, channels and granularity through rounds of cuts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgecr.core.errors import WorkError
from edgecr.surgery.changes.cut import ChannelCut
from edgecr.surgery.planning.plan import Plan
from edgecr.surgery.tracing.after import after
from edgecr.surgery.tracing.graph import ChannelGraph, trace_channels
from edgecr.surgery.tracing.proof import proved
from tests.surgery.conftest import disturbed

SHAPE = (3, 9, 7)


class Two(nn.Module):
    """Halves that lose equal positions, of which one meets a branch."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 12, 3), nn.BatchNorm2d(12)
        self.side, self.head = nn.Conv2d(12, 6, 1), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(self.stem(x)))
        one, other = y.chunk(2, 1)
        return self.head(torch.cat([one + self.side(y), other], 1).mean((2, 3)))


class Grouped(nn.Module):
    """Groups of a grouped convolution go one by one at first; with few left, a trace would cut inside of them."""

    def __init__(self, groups: int = 8, width: int = 32) -> None:
        super().__init__()
        self.stem, self.mix = nn.Conv2d(3, width, 3), nn.Conv2d(width, width, 3, groups=groups)
        self.norm, self.head = nn.BatchNorm2d(width), nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.norm(self.mix(F.relu(self.stem(x))))).mean((2, 3)))


class Padded(nn.Module):
    """A branch of 16 channels of which the middle ones meet a padded stem: three groups with one first layer."""

    class Pad(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.after = 3, 5

        def forward(self, x: Tensor) -> Tensor:
            return F.pad(x, (0, 0, 0, 0, self.before, self.after))

    def __init__(self) -> None:
        super().__init__()
        self.side, self.stem, self.pad = nn.Conv2d(3, 16, 3), nn.Conv2d(3, 8, 3), self.Pad()
        self.only, self.head = nn.Conv2d(16, 7, 1, groups=1), nn.Linear(23, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.side(x) + self.pad(self.stem(x)))
        return self.head(torch.cat([self.only(y), y], 1).mean((2, 3)))


class Joined(nn.Module):
    """Two branches of odd widths joined in front of one depthwise layer, whose groups belong to both."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Conv2d(3, 7, 3), nn.Conv2d(3, 5, 3)
        self.deep, self.head = nn.Conv2d(12, 24, 3, groups=12), nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.deep(torch.cat([self.one(x), self.other(x)], 1))).mean((2, 3)))


class Shuffled(nn.Module):
    """A shuffle in front of a shared, tied layer, squeeze and excitation, and an odd flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.shared, self.tied = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 12, 1), nn.Conv2d(12, 12, 1)
        self.tied.weight = self.shared.weight
        self.down, self.up, self.head = nn.Conv2d(12, 5, 1), nn.Conv2d(5, 12, 1), nn.Linear(12 * 6, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.stem(x))
        n, c, h, w = y.shape
        y = y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        y = self.tied(F.relu(self.shared(F.relu(self.shared(y)))))
        y = y * torch.sigmoid(self.up(F.silu(self.down(y.mean((2, 3), keepdim=True)))))
        return self.head(F.max_pool2d(y, 2).flatten(1))


NETWORKS: list[Callable[[], nn.Module]] = [
    Two,
    Grouped,
    lambda: Grouped(2, 16),
    lambda: Grouped(4, 12),
    Padded,
    Shuffled,
    Joined,
]


def without(graph: ChannelGraph, gone: Iterable[Any]) -> Plan:
    removed = tuple(np.array(sorted(ids), dtype=np.int64) for ids in gone)
    kept = np.array([group.width - len(ids) for group, ids in zip(graph.groups, removed)], dtype=np.int64)
    return Plan(graph, kept, removed)


def by_chance(graph: ChannelGraph, seed: int) -> Plan:
    """Any channels of every group go, from none to all but one."""
    random = np.random.default_rng(seed)
    counts = [int(random.integers(0, group.width)) for group in graph.groups]
    return without(graph, [random.choice(g.width, n, replace=False) for g, n in zip(graph.groups, counts)])


def owners(graph: ChannelGraph) -> dict[str, Any]:
    """Of each group: where a channel has how many positions."""
    return {
        group.name: sorted((p.member.tensor, p.member.dim, p.multiplicity) for p in group.tensors)
        for group in graph.groups
    }


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("seed", range(4))
def test_groups_stay_what_they_were_until_one_channel_of_each_is_left(
    network: Callable[[], nn.Module], seed: int
) -> None:
    torch.manual_seed(seed)
    module = disturbed(network())
    first = graph = trace_channels(module, SHAPE)
    cuts: list[ChannelCut] = []
    while any(group.width > 1 for group in graph.groups):
        plan = by_chance(graph, seed + 10 * len(cuts))
        cuts.append(plan.cut())
        module, difference = proved(module, cuts[-1], graph)
        assert difference < 1e-5
        before, graph = graph, after(first, cuts, module)
        assert [group.width for group in graph.groups] == plan.kept.tolist()
        assert owners(graph) == owners(before) == owners(first)
        sizes = {name: tensor.shape for name, tensor in module.state_dict().items()}
        for place in (place for group in graph.groups for place in group.tensors):
            assert len(place.member.ids) == sizes[place.member.tensor][place.member.dim]


@pytest.mark.parametrize("network", [Two, Padded, Shuffled])
@pytest.mark.parametrize("seed", range(4))
def test_a_second_trace_names_what_is_left_as_the_first_one(network: Callable[[], nn.Module], seed: int) -> None:
    module = disturbed(network())
    first = trace_channels(module, SHAPE)
    random = np.random.default_rng(seed)
    counts = [int(random.integers(0, group.width - 1)) for group in first.groups]
    cut = without(first, [random.choice(g.width, n, replace=False) for g, n in zip(first.groups, counts)]).cut()
    module, _ = proved(module, cut, first)
    again, known = trace_channels(module, SHAPE), after(first, [cut], module)
    assert owners(again) == owners(known)
    for one, other in zip(again.groups, known.groups):
        assert one.name == other.name
        pairs = zip([*one.tensors, *one.settings], [*other.tensors, *other.settings])
        assert all((a.positions == b.positions).all() for a, b in pairs)


def test_names_do_not_follow_the_positions_of_channels() -> None:
    """The first channel of the layer goes; its groups keep their names all the same."""
    module = disturbed(Padded())
    first = trace_channels(module, SHAPE)
    own, shared = (next(g for g in first.groups if g.layers == layers) for layers in (("side",), ("side", "stem")))
    assert {own.name, shared.name} == {"side", "side#2"}
    lowest = [range(g.width - 1) if g is own else () for g in first.groups]
    cut = without(first, lowest).cut()
    module, _ = proved(module, cut, first)
    again = trace_channels(module, SHAPE)
    assert next(g.name for g in again.groups if g.layers == ("side", "stem")) == shared.name
    assert own.name not in owners(again)
    assert next(g.width for g in after(first, [cut], module).groups if g.name == own.name) == 1


def test_few_wide_groups_are_still_cut_by_the_group() -> None:
    module = disturbed(Grouped())
    first = trace_channels(module, SHAPE)
    assert owners(first) == {
        "stem": [
            ("head.weight", 1, 4),
            ("mix.bias", 0, 4),
            ("mix.weight", 0, 4),
            *[(f"norm.{name}", 0, 4) for name in ("bias", "running_mean", "running_var", "weight")],
            ("stem.bias", 0, 4),
            ("stem.weight", 0, 4),
        ]
    }
    cut = without(first, [range(5)]).cut()
    module, _ = proved(module, cut, first)
    assert owners(trace_channels(module, SHAPE)) != owners(first)
    assert owners(after(first, [cut], module)) == owners(first)


def wrong(cut: ChannelCut, **changes: Any) -> ChannelCut:
    return ChannelCut.parse(cut.plain() | changes)


def test_a_channel_goes_from_all_its_positions_or_stays() -> None:
    module = disturbed(Shuffled())
    graph = trace_channels(module, SHAPE)
    cut = without(graph, [range(1) if "stem" in g.layers else () for g in graph.groups]).cut()
    tensors = cut.plain()["tensors"]
    head = next(one for one in tensors if one["tensor"] == "head.weight")
    start, stop = head["removed"].split(",")[0].split("-")
    for removed in (f"{start}-{int(stop) - 1}", f"{head['removed']},{70}"):
        changed = [one | {"removed": removed} if one is head else one for one in tensors]
        with pytest.raises(WorkError, match="from some places only"):
            after(graph, [wrong(cut, tensors=changed)], module)


def test_records_that_do_not_fit_are_refused() -> None:
    module = disturbed(Two())
    graph = trace_channels(module, SHAPE)
    cut = without(graph, [range(1), *[()] * (len(graph.groups) - 1)]).cut()
    slim, _ = proved(module, cut, graph)
    after(graph, [cut], slim)
    tensors, groups = cut.plain()["tensors"], cut.plain()["groups"]
    for changes, message in [
        ({"tensors": tensors[1:]}, "from some places only"),
        ({"groups": []}, "does not say which channels of"),
        ({"groups": [groups[0] | {"removed": 2}]}, "does not say which channels of"),
        ({"groups": [*groups, groups[0] | {"group": "elsewhere"}]}, "names elsewhere, which is no group"),
    ]:
        with pytest.raises(WorkError, match=message):
            after(graph, [wrong(cut, **changes)], slim)
    whole = without(graph, [range(graph.groups[0].width), *[()] * (len(graph.groups) - 1)]).cut()
    with pytest.raises(WorkError, match="does not say which channels of"):
        after(graph, [whole], slim)
    with pytest.raises(WorkError, match=r"positions along axis 0, but its groups have"):
        after(graph, [cut], module)
    with pytest.raises(WorkError, match=r"positions along axis 0, but its groups have"):
        after(graph, [], slim)
