from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgecr.core.errors import UnsupportedModel
from edgecr.surgery.tracing.graph import explained, trace_channels
from tests.surgery.networks import Net, widths

Prune = Callable[..., Any]
SHAPE = (3, 8, 8)


def test_a_chain_has_one_group_a_layer_and_its_output_stays(prune: Prune) -> None:
    graph, slim, _ = prune(Net(10), SHAPE, fresh=lambda: Net(10))
    assert widths(graph) == {"stem": 10}
    assert (slim.stem.out_channels, slim.norm.num_features, slim.head.in_features) == (6, 6, 6)
    assert slim.head.out_features == 5
    assert slim.stem.in_channels == 3


def test_residual_layers_are_one_group_and_say_why(prune: Prune) -> None:
    class Residual(Net):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(8, 6, 1), nn.Conv2d(6, 8, 1)

        def middle(self, x: Tensor) -> Tensor:
            return x + self.two(F.relu(self.one(x)))

    graph, *_ = prune(Residual(), SHAPE, fresh=Residual)
    assert widths(graph) == {"stem": 8, "one": 6}
    group = next(g for g in explained(graph) if g.name == "stem")
    assert group.layers == ("stem", "two")
    assert set(group.readers) == {"one", "head"}
    assert any("add" in why for why in group.reasons)


def test_concatenating_a_tensor_twice_takes_both_copies(prune: Prune) -> None:
    class Twice(Net):
        def __init__(self) -> None:
            super().__init__(out=16)

        def middle(self, x: Tensor) -> Tensor:
            return torch.cat([x, x], 1)

    graph, slim, _ = prune(Twice(), SHAPE, fresh=Twice)
    assert widths(graph) == {"stem": 8}
    assert slim.head.in_features == 2 * slim.stem.out_channels


def test_two_concatenated_sources_stay_two_groups(prune: Prune) -> None:
    class Two(Net):
        def __init__(self) -> None:
            super().__init__(out=14)
            self.side = nn.Conv2d(8, 6, 1)

        def middle(self, x: Tensor) -> Tensor:
            return torch.cat([x, self.side(x)], 1)

    graph, *_ = prune(Two(), SHAPE, fresh=Two)
    assert widths(graph) == {"stem": 8, "side": 6}


def test_equal_splits_lose_equal_positions(prune: Prune) -> None:
    class Split(Net):
        def middle(self, x: Tensor) -> Tensor:
            left, right = x.chunk(2, 1)
            return torch.cat([right, left], 1)

    graph, slim, _ = prune(Split(), SHAPE, fresh=Split)
    assert widths(graph) == {"stem": 4}
    assert slim.stem.out_channels % 2 == 0


def test_splits_at_fixed_places_freeze() -> None:
    class Fixed(Net):
        def middle(self, x: Tensor) -> Tensor:
            return torch.cat([x[:, :3], x[:, 3:]], 1)

    graph = trace_channels(Fixed(), SHAPE)
    assert graph.groups == ()
    assert "fixed places" in graph.frozen[0].reason


def test_shuffles_are_followed(prune: Prune) -> None:
    class Shuffle(Net):
        def __init__(self) -> None:
            super().__init__(12)
            self.after = nn.Conv2d(12, 12, 3, groups=12)

        def middle(self, x: Tensor) -> Tensor:
            n, c, h, w = x.shape
            return self.after(x.view(n, 3, c // 3, h, w).transpose(1, 2).reshape(n, c, h, w))

    graph, slim, _ = prune(Shuffle(), SHAPE, fresh=Shuffle)
    assert widths(graph) == {"stem": 4}
    assert slim.stem.out_channels == slim.after.groups == slim.after.out_channels


def test_flatten_owns_consecutive_columns(prune: Prune) -> None:
    class Flat(Net):
        def __init__(self) -> None:
            super().__init__(out=8 * 16)

        def middle(self, x: Tensor) -> Tensor:
            return F.max_pool2d(x, 2).flatten(1)

    _, slim, cut = prune(Flat(), SHAPE, fresh=Flat)
    assert slim.head.in_features == 16 * slim.stem.out_channels
    columns = next(one for one in cut.tensors if one.tensor == "head.weight")
    assert all((int(run.split("-")[1]) + 1) % 16 == 0 for run in columns.removed.split(","))


def test_squeeze_and_excitation(prune: Prune) -> None:
    class Excited(Net):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.up = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)

        def middle(self, x: Tensor) -> Tensor:
            return x * torch.sigmoid(self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))))

    graph, *_ = prune(Excited(), SHAPE, fresh=Excited)
    assert widths(graph) == {"stem": 8, "down": 4}


def test_a_gate_of_one_channel_is_shared_by_all(prune: Prune) -> None:
    class Gated(Net):
        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.Conv2d(8, 1, 1)

        def middle(self, x: Tensor) -> Tensor:
            return x * torch.sigmoid(self.gate(x))

    graph, slim, _ = prune(Gated(), SHAPE, fresh=Gated)
    assert widths(graph) == {"stem": 8}
    assert slim.gate.out_channels == 1


@pytest.mark.parametrize("groups", [4, 2])
def test_grouped_convolutions(prune: Prune, groups: int) -> None:
    class Grouped(Net):
        def __init__(self) -> None:
            super().__init__(16)
            self.mix = nn.Conv2d(16, 16, 3, groups=groups)

        def middle(self, x: Tensor) -> Tensor:
            return self.mix(x)

    graph, slim, _ = prune(Grouped(), SHAPE, fresh=Grouped)
    expected = {"stem": 4} if groups == 4 else {"stem": 8, "mix": 8}
    assert widths(graph) == expected
    assert slim.mix.in_channels == slim.stem.out_channels
    assert slim.mix.groups == (2 if groups == 4 else groups)


def test_depthwise_with_a_multiplier(prune: Prune) -> None:
    class Multiplied(Net):
        def __init__(self) -> None:
            super().__init__(6, out=12)
            self.wide = nn.Conv2d(6, 12, 3, groups=6)

        def middle(self, x: Tensor) -> Tensor:
            return self.wide(x)

    _, slim, _ = prune(Multiplied(), SHAPE, fresh=Multiplied)
    assert slim.wide.out_channels == 2 * slim.wide.groups == 2 * slim.stem.out_channels


def test_a_convolution_of_one_input_channel_is_not_depthwise(prune: Prune) -> None:
    class Grey(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.two(F.relu(self.one(x)))

    graph, slim, _ = prune(Grey(), (1, 8, 8), fresh=Grey)
    assert widths(graph) == {"one": 6}
    assert (slim.one.in_channels, slim.one.groups, slim.two.out_channels) == (1, 1, 4)


def test_a_layer_used_twice_is_cut_once(prune: Prune) -> None:
    class Shared(Net):
        def __init__(self) -> None:
            super().__init__()
            self.again = nn.Conv2d(8, 8, 1)

        def middle(self, x: Tensor) -> Tensor:
            return self.again(F.relu(self.again(x)))

    graph, slim, _ = prune(Shared(), SHAPE, fresh=Shared)
    assert widths(graph) == {"stem": 8}
    assert slim.again.in_channels == slim.again.out_channels == slim.stem.out_channels


def test_a_layer_that_also_reads_the_image_keeps_its_inputs() -> None:
    class Image(Net):
        def __init__(self) -> None:
            super().__init__(3)

        def middle(self, x: Tensor) -> Tensor:
            return self.stem(x)

    assert trace_channels(Image(), SHAPE).groups == ()


def test_tied_weights_stay_tied(prune: Prune) -> None:
    class Tied(Net):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
            self.two.weight = self.one.weight

        def middle(self, x: Tensor) -> Tensor:
            return self.two(F.relu(self.one(x)))

    _, slim, _ = prune(Tied(), SHAPE, fresh=Tied)
    assert slim.two.weight is slim.one.weight
    assert slim.two.in_channels == slim.stem.out_channels


def test_an_unknown_operator_freezes_and_is_named() -> None:
    class Strange(Net):
        def __init__(self) -> None:
            super().__init__()
            self.free = nn.Conv2d(8, 8, 1)

        def middle(self, x: Tensor) -> Tensor:
            return self.free(torch.cumsum(x, 1)).relu()

    graph = trace_channels(Strange(), SHAPE)
    assert graph.stopped_by() == {"cumsum": ("the model",)}
    assert widths(graph) == {"free": 8}
    assert [frozen.layer for frozen in graph.frozen] == ["stem", "head"]


def test_a_weight_that_is_computed_freezes_its_layer() -> None:
    class Computed(Net):
        def __init__(self) -> None:
            super().__init__()
            self.next = nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 1))

        def middle(self, x: Tensor) -> Tensor:
            return self.next(x)

    assert trace_channels(Computed(), SHAPE).groups == ()


def test_heads_that_only_run_in_training_are_cut_too(prune: Prune) -> None:
    class Auxiliary(Net):
        def __init__(self) -> None:
            super().__init__()
            self.side = nn.Sequential(nn.Conv2d(8, 6, 1), nn.BatchNorm2d(6), nn.Conv2d(6, 5, 1))

        def forward(self, x: Tensor) -> Any:
            y = F.relu(self.norm(self.stem(x)))
            out = self.head(y.mean((2, 3)))
            return (out, self.side(y)) if self.training else out

    graph, slim, _ = prune(Auxiliary(), SHAPE, fresh=Auxiliary)
    assert widths(graph) == {"stem": 8, "side.0": 6}
    assert slim.side[0].in_channels == slim.stem.out_channels


def test_tracing_leaves_the_module_as_it_was() -> None:
    module = Net()
    module.train()
    module.norm.eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    trace_channels(module, SHAPE)
    assert module.training
    assert not module.norm.training
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


def test_a_model_that_cannot_run_is_refused_with_its_layer() -> None:
    with pytest.raises(UnsupportedModel, match="in stem"):
        trace_channels(Net(), (4, 8, 8))


def test_a_group_norm_that_runs_twice_ties_both_inputs(prune: Prune) -> None:
    class Twice(Net):
        def __init__(self) -> None:
            super().__init__(12, out=24)
            self.side, self.both = nn.Conv2d(12, 12, 1), nn.GroupNorm(4, 12, affine=False)

        def middle(self, x: Tensor) -> Tensor:
            return torch.cat([self.both(x), self.both(self.side(x))], 1)

    graph, slim, _ = prune(Twice(), SHAPE, fresh=Twice)
    assert widths(graph) == {"stem": 4}
    assert slim.stem.out_channels == slim.side.out_channels == 3 * slim.both.num_groups


def test_a_weight_that_is_also_read_as_a_whole_stays(prune: Prune) -> None:
    class Read(Net):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.free = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)

        def middle(self, x: Tensor) -> Tensor:
            scale = torch.linalg.matrix_norm(self.inner.weight.flatten(1).cumsum(0))
            return self.free(self.inner(x).relu()).relu() * scale

    graph, *_ = prune(Read(), SHAPE, fresh=Read)
    assert widths(graph) == {"free": 8}
    assert any("also read as a whole" in frozen.reason for frozen in graph.frozen)


@pytest.mark.parametrize("groups", [2, 3])
def test_shuffles_of_one_operator_mix_the_groups(prune: Prune, groups: int) -> None:
    class Shuffle(Net):
        def __init__(self) -> None:
            super().__init__(12)
            self.after = nn.Conv2d(12, 12, 3, groups=12)

        def middle(self, x: Tensor) -> Tensor:
            return self.after(torch.channel_shuffle(x, groups))

    graph, slim, _ = prune(Shuffle(), SHAPE, fresh=Shuffle)
    assert widths(graph) == {"stem": 12 // groups}
    assert slim.stem.out_channels == slim.after.groups


@pytest.mark.parametrize("parts", [3, 4])
def test_all_parts_of_a_split_lose_equal_positions(prune: Prune, parts: int) -> None:
    class Split(Net):
        def __init__(self) -> None:
            super().__init__(12, out=12)
            self.each = nn.ModuleList(nn.Conv2d(12 // parts, 5, 1) for _ in range(parts))
            self.head = nn.Linear(5 * parts, 5)

        def middle(self, x: Tensor) -> Tensor:
            return torch.cat([layer(part) for layer, part in zip(self.each, x.chunk(parts, 1))], 1)

    graph, slim, _ = prune(Split(), SHAPE, fresh=Split)
    assert widths(graph) == {"stem": 12 // parts, **{f"each.{n}": 5 for n in range(parts)}}
    assert all(layer.in_channels == slim.stem.out_channels // parts for layer in slim.each)


def test_channels_that_meet_a_fixed_number_of_others_stay(prune: Prune) -> None:
    class Positions(Net):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("places", torch.randn(1, 8, 4, 4))
            self.free = nn.Conv2d(8, 6, 1)
            self.head = nn.Linear(6, 5)

        def middle(self, x: Tensor) -> Tensor:
            return self.free(F.max_pool2d(x, 2) + self.places).relu()

    graph, *_ = prune(Positions(), SHAPE, fresh=Positions)
    assert widths(graph) == {"free": 6}
    assert "fixed" in graph.frozen[0].reason


def test_three_stacked_tensors_lose_the_same_channels(prune: Prune) -> None:
    class Stacked(Net):
        def __init__(self) -> None:
            super().__init__(out=6)
            self.each = nn.ModuleList(nn.Conv2d(8, 6, 1) for _ in range(3))

        def middle(self, x: Tensor) -> Tensor:
            return torch.stack([layer(x) for layer in self.each], 1).prod(1)

    graph, slim, _ = prune(Stacked(), SHAPE, fresh=Stacked)
    assert widths(graph) == {"stem": 8, "each.0": 6}
    assert len({layer.out_channels for layer in slim.each}) == 1


def test_all_outputs_of_a_model_keep_their_channels(prune: Prune) -> None:
    class Outputs(Net):
        def __init__(self) -> None:
            super().__init__()
            self.side = nn.Conv2d(8, 6, 1)

        def forward(self, x: Tensor) -> Any:
            y = F.relu(self.norm(self.stem(x)))
            return {"first": self.head(y.mean((2, 3))), "features": [self.side(y)]}

    graph, *_ = prune(Outputs(), SHAPE, fresh=Outputs)
    assert widths(graph) == {"stem": 8}
    assert {frozen.layer for frozen in graph.frozen} == {"head", "side"}
