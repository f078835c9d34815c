from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgecr.core.errors import UnsupportedModel
from edgecr.surgery.carry_out import prune_channels
from edgecr.surgery.changes.cut import ChannelCut, as_positions, as_text, mask, remove, verify
from edgecr.surgery.planning.plan import Plan, Planner
from edgecr.surgery.planning.widths import Limits
from edgecr.surgery.scoring.scores import ScoringInputs, scores

SHAPE = (3, 8, 8)


def chain() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3)]
    return nn.Sequential(*layers).eval()


def half(planner: Planner) -> Plan:
    return planner.by_sparsity("layer", 0.5)


def cut_of(*tensors: tuple[str, int, str, str]) -> ChannelCut:
    parts = [{"tensor": t, "dim": d, "removed": r, "role": role} for t, d, r, role in tensors]
    return ChannelCut.parse({"tensors": parts})


RIGHT = [(f"1.{name}", 0, "1-2,5", "out") for name in ("weight", "bias", "running_mean", "running_var")]
RIGHT += [("0.weight", 0, "1-2,5", "out"), ("0.bias", 0, "1-2,5", "out")]


@pytest.mark.parametrize("positions", [[], [0], [0, 1, 2], [1, 3, 4, 5, 9]])
def test_positions_survive_their_text(positions: list[int]) -> None:
    assert list(as_positions(as_text(positions))) == positions
    assert as_text([7, 0, 1, 2, 3]) == "0-3,7"


def test_masked_and_slimmed_agree_and_attributes_follow() -> None:
    cut = cut_of(*RIGHT, ("3.weight", 1, "1-2,5", "in"))
    masked, slim = chain(), chain()
    mask(masked, cut)
    remove(slim, cut)
    assert verify(masked, slim, SHAPE) < 1e-5
    assert (slim[0].out_channels, slim[1].num_features, slim[3].in_channels) == (5, 5, 5)
    assert isinstance(slim[0].weight, nn.Parameter)
    assert slim[0].weight.requires_grad


def test_a_wrong_record_is_refused() -> None:
    masked, slim = chain(), chain()
    mask(masked, cut_of(*RIGHT))
    remove(slim, cut_of(*RIGHT, ("3.weight", 1, "1,5-6", "in")))
    with pytest.raises(UnsupportedModel, match="differs from the masked one"):
        verify(masked, slim, SHAPE)


def test_a_forgotten_reader_is_refused_with_its_layer() -> None:
    slim = chain()
    remove(slim, cut_of(*RIGHT))
    with pytest.raises(UnsupportedModel, match="fails in 3"):
        verify(chain(), slim, SHAPE)


class Several(nn.Module):
    """Several answers from one convolution; ``last`` makes the last one."""

    def __init__(self, last: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 4, 1), last

    def forward(self, x: Tensor) -> dict[str, Any]:
        return {"first": x.sum(), "others": (self.last(self.conv(x)), x.mean())}


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("which", ["masked", "slim", "both"])
def test_answers_that_are_not_finite_prove_nothing(bad: float, which: str) -> None:
    good = Several(lambda y: y)
    broken = copy.deepcopy(good)
    broken.conv.bias.data[0] = bad
    pair = {"masked": (broken, good), "slim": (good, broken), "both": (broken, broken)}[which]
    with pytest.raises(UnsupportedModel, match="not finite"):
        verify(*pair, SHAPE)


def test_every_answer_is_compared_in_value_and_shape() -> None:
    good = Several(lambda y: y)
    assert verify(good, copy.deepcopy(good), SHAPE) == 0
    for other, message in [
        (lambda y: y * 1.001, "differs from the masked one"),
        (lambda y: y[:, :3], "changed the shape"),
        (lambda y: y.flatten(1), "changed the shape"),
    ]:
        wrong = Several(other)
        wrong.conv = good.conv
        with pytest.raises(UnsupportedModel, match=message):
            verify(good, wrong, SHAPE)


def test_whole_numbers_and_empty_answers_are_compared_too() -> None:
    for last in (lambda y: (y * 100).long(), lambda y: y > 0, lambda y: y[:0]):
        good = Several(last)
        assert verify(good, copy.deepcopy(good), SHAPE) == 0
    wrong = Several(lambda y: y > 0.1)
    good = Several(lambda y: y > 0)
    wrong.conv = good.conv
    with pytest.raises(UnsupportedModel, match="differs from the masked one"):
        verify(good, wrong, SHAPE)


def test_answers_of_heads_that_only_run_in_training_are_compared_if_asked() -> None:
    class Auxiliary(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.inner, self.factor = nn.Sequential(nn.Dropout(0.5)), factor  # layers stay in evaluation

        def forward(self, x: Tensor) -> Any:
            return (x, self.inner(x) * self.factor) if self.training else x

    pair = Auxiliary(1.0), Auxiliary(1.1)
    assert verify(*pair, SHAPE) == verify(pair[0], pair[0], SHAPE, auxiliary=True) == 0
    with pytest.raises(UnsupportedModel, match="differs from the masked one"):
        verify(*pair, SHAPE, auxiliary=True)


def test_memory_format_type_and_gradient_flag_stay() -> None:
    module = chain().to(memory_format=torch.channels_last).to(torch.float64)
    module[0].weight.requires_grad_(False)
    remove(module, cut_of(*RIGHT, ("3.weight", 1, "1-2,5", "in")))
    assert module[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert module[0].weight.dtype == torch.float64
    assert not module[0].weight.requires_grad


def test_a_model_with_hard_coded_sizes_is_pruned_elsewhere() -> None:
    class HardCoded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.three = (nn.Conv2d(a, b, 1) for a, b in ((3, 8), (8, 6), (6, 2)))

        def forward(self, x: Tensor) -> Tensor:
            y = self.one(x)
            y = y.view(len(y), 2, 4, 8, 8).transpose(1, 2).reshape(len(y), 8, 8, 8)
            return self.three(self.two(y).relu())

    module = HardCoded()
    before = copy.deepcopy(module.state_dict())
    pruned = prune_channels(SHAPE, scores.get("l2"), ScoringInputs(module), Limits("off"), half)
    assert pruned.module.one.out_channels == 8
    assert pruned.module.two.out_channels == 3
    assert [one.layer for one in pruned.graph.withheld] == ["one"]
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


def test_a_head_of_zeros_hides_no_mistake() -> None:
    class Misleading(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.head = (nn.Conv2d(a, b, 1) for a, b in ((3, 8), (8, 6), (6, 2)))
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

        def forward(self, x: Tensor) -> Tensor:
            y = self.one(x)
            n, c, h, w = y.shape  # the inner part is fixed here, unlike in a channel shuffle
            return self.head(self.two(y.view(n, c // 4, 4, h, w).transpose(1, 2).reshape(n, c, h, w)))

    pruned = prune_channels(SHAPE, scores.get("l2"), ScoringInputs(Misleading()), Limits("off"), half)
    assert [one.layer for one in pruned.graph.withheld] == ["one"]
    assert (pruned.module.one.out_channels, pruned.module.two.out_channels) == (8, 3)
    assert pruned.difference < 1e-5


def test_a_model_without_removable_channels_is_refused_with_reasons() -> None:
    with pytest.raises(UnsupportedModel, match="output of the model"):
        prune_channels(SHAPE, scores.get("l1"), ScoringInputs(nn.Conv2d(3, 4, 1)), Limits(), half)
