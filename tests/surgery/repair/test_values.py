"""Values of widths: measured by the model itself, for a model that is left as it was."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from edgecr.models import architecture, build
from edgecr.surgery.repair.branches import branches
from edgecr.surgery.repair.replay import Flow, record, replay
from edgecr.surgery.repair.values import Probe, WidthValues, divergence
from edgecr.surgery.scoring.scores import ScoringInputs, scores
from edgecr.surgery.tracing.graph import trace_channels
from edgecr.surgery.tracing.running import running
from tests.surgery.conftest import disturbed

SHAPE = (3, 8, 8)


def images(count=96, seed=0):
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def residual(classes=4):
    torch.manual_seed(0)
    return disturbed(build(architecture({"arch": "resnet20", "width": 0.25}), classes))


def values_of(module, question, score="l2"):
    graph = trace_channels(module, SHAPE)
    found = [scores.get(score)(group, ScoringInputs(module)) for group in graph.groups]
    return graph, WidthValues(module, graph.groups, found, question)


def test_losses_fall_with_the_width_and_the_whole_model_loses_nothing():
    module = residual()
    before = copy.deepcopy(module.state_dict())
    question = Probe(images(64).split(32), images(32, seed=1).split(16))
    graph, values = values_of(module, question)
    widths = [np.unique([1, max(1, group.width // 2), group.width]) for group in graph.groups]
    told = []
    losses = values.losses(widths, lambda: told.append(1))
    assert all((np.diff(own) <= 0).all() and own[-1] == 0 and own[0] > 0 for own in losses)
    assert len(told) == 2 * sum(len(own) - 1 for own in widths)
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in before.items())


def test_a_channel_that_another_one_stands_in_for_costs_nothing():
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3)
    with torch.no_grad():
        first.weight[5], first.bias[5] = first.weight[4] * 0.5, first.bias[4] * 0.5  # the least of all, and a copy
    module = nn.Sequential(first, nn.ReLU(), second, nn.Flatten(), nn.Linear(8 * 16, 4)).eval()
    question = Probe(images(256).split(64), images(64, seed=1).split(64), ridge=1e-6)
    graph, values = values_of(module, question)
    number = [group.name for group in graph.groups].index("0")
    widths = [np.array([5, 6]) if n == number else np.array([group.width]) for n, group in enumerate(graph.groups)]
    order = np.argsort(scores.get("l2")(graph.groups[number], ScoringInputs(module)))
    assert order[0] == 5
    assert values.losses(widths, lambda: None)[number][0] < 1e-6


def test_the_value_is_that_of_a_model_whose_readers_do_without_the_channels():
    """Against a model that is cut and refitted by hand, in double precision."""
    torch.manual_seed(1)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).eval()
    fitted, asked = images(64), images(32, seed=1)
    graph, values = values_of(module, Probe([fitted], [asked], positions=64, ridge=0.1))
    found = values.losses([np.array([2, 4])], lambda: None)[0][0]
    gone = np.argsort(scores.get("l2")(graph.groups[0], ScoringInputs(module)), kind="stable")[:2]
    kept = [channel for channel in range(4) if channel not in gone]
    with torch.no_grad():
        rows = module[1](module[0](fitted)).permute(0, 2, 3, 1).reshape(-1, 4).double()
        centred = rows - rows.mean(0)
        weight = module[2].weight.detach().double().flatten(1)
        gram = centred.T @ centred / len(rows)
        unit = gram[kept][:, kept].diagonal().mean()
        extra = torch.linalg.solve(
            gram[kept][:, kept] + 0.1 * unit * torch.eye(2), gram[kept][:, gone.tolist()] @ weight[:, gone.tolist()].T
        )
        new = torch.zeros_like(weight)
        new[:, kept] = weight[:, kept] + extra.T
        bias = module[2].bias.double() + (weight - new) @ rows.mean(0)
        inside = module[1](module[0](asked)).double()
        answers = functional.conv2d(inside, new[:, :, None, None], bias).mean((2, 3))
        expected = divergence(module(asked), answers)
    assert found == pytest.approx(expected, rel=1e-4)


def test_divergence_is_that_of_probabilities():
    logits = torch.log(torch.tensor([[0.5, 0.5], [0.9, 0.1]]))
    other = torch.log(torch.tensor([[0.25, 0.75], [0.9, 0.1]]))
    by_hand = 0.5 * (0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75))
    assert divergence(logits, other) == pytest.approx(by_hand, rel=1e-5)
    assert divergence(logits, logits + 3) == pytest.approx(0, abs=1e-6)


class InPlace(nn.Module):
    """A network that overwrites what later layers read, and looks at a view."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.head = nn.BatchNorm2d(4), nn.Linear(4, 3)

    def forward(self, x):
        x = functional.relu_(self.one(x))
        y = functional.relu_(self.norm(self.two(x)))
        y += x
        x.mul_(0.5)
        y = torch.cat([y[:, :2], x[:, 2:]], 1)
        return self.head(y.mean((2, 3)))


@pytest.mark.parametrize("make", [residual, InPlace])
def test_a_replay_from_any_operator_gives_the_same_bits(make):
    torch.manual_seed(0)
    module, given = make().eval(), images(8)
    with running(module):
        flow = Flow.of(module, given[:2])
        starts = sorted({value[0] for value in flow.last_read})
        recording = record(module, given, flow, starts)
        assert all(torch.equal(replay(module, given, recording, start), recording.answers) for start in starts)


def test_a_replay_sees_what_changed_behind_its_start():
    module, given = residual(), images(8)
    with running(module):
        flow = Flow.of(module, given[:2])
        last = max(flow.last_read.values())
        recording = record(module, given, flow, [last])
        with torch.no_grad():
            module.linear.bias.add_(1)
            assert torch.allclose(replay(module, given, recording, last), recording.answers + 1)


def test_code_that_looks_at_values_runs_whole():
    class Looks(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :3] * (2 if float(x.sum()) > 0 else 1)

    module, given = Looks().eval(), images(4)
    flow = Flow.of(module, given)
    assert flow.looks
    assert torch.equal(replay(module, given, record(module, given, flow, [1]), 1), module(given))


@torch.no_grad()
def reading(*weights):
    """Channels of one convolution, of which the first ones are small, and the weights that a next one reads them by."""
    torch.manual_seed(0)
    first, norm = nn.Conv2d(3, len(weights), 1), nn.BatchNorm2d(4)
    second = nn.Conv2d(len(weights), 4, 1, bias=False)
    first.weight[:2] *= 1e-2
    second.weight.copy_(torch.tensor(weights)[None, :, None, None] * torch.randn(4, 1, 1, 1))
    return nn.Sequential(first, second, norm, nn.AdaptiveAvgPool2d(2), nn.Flatten()).eval()


def test_the_constant_of_a_channel_goes_into_the_norm_behind_its_reader():
    module = reading(1.0, 1.0, 1.0, 1.0)
    with torch.no_grad():
        module[0].weight[0], module[0].bias[0] = 0, 5
    _, values = values_of(module, Probe([images(32)], [images(16, seed=1)]))
    assert values.losses([np.array([3, 4])], lambda: None)[0][0] < 1e-9


def test_a_width_is_worth_no_less_than_a_larger_one_even_where_channels_cancel():
    """Two equal channels are read with opposite signs: without both of them nothing is lost, without one something."""
    module = reading(-100.0, 100.0, 1.0, 1.0)
    with torch.no_grad():
        module[0].weight[1], module[0].bias[1] = module[0].weight[0], module[0].bias[0]
    question = Probe([images(32)], [images(16, seed=1)], ridge=1e9)  # nothing stands in for what goes
    _, values = values_of(module, question)
    both = values.losses([np.array([2, 4])], lambda: None)[0]
    one_too = values.losses([np.array([2, 3, 4])], lambda: None)[0]
    assert both[0] < 1e-6 < 1e-3 < one_too[1]
    assert one_too[0] == one_too[1]


def test_the_loss_of_a_branch_is_the_mean_over_images_however_they_come():
    module, asked = residual(), images(24, seed=1)
    branch = branches(module, asked)[0]
    silent = copy.deepcopy(module)
    with torch.no_grad():
        for name in branch.silenced:
            silent.get_parameter(name).zero_()
        expected = divergence(module(asked), silent(asked))
    for chunks in ([asked], [asked[:20], asked[20:]]):
        _, values = values_of(module, Probe([images(8)], chunks))
        assert values.drop_losses([branch], lambda: None) == [pytest.approx(expected, rel=1e-4)]
