"""Greedy elimination: what the readers cannot make up for."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from edgecr.core.errors import RequestError
from edgecr.surgery.scoring.obs import elimination, output_scales
from edgecr.surgery.scoring.scores import ScoringInputs, ranked, scores
from edgecr.surgery.tracing.graph import trace_channels

SHAPE = (3, 8, 8)


def inputs(module, count=256):
    images = torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(0))
    return ScoringInputs(module, batches=[(part, None) for part in images.split(64)])


def network(width=6):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, width, 3), nn.ReLU(), nn.Conv2d(width, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(80, 4)
    ).eval()


def first(module):
    return next(group for group in trace_channels(module, SHAPE).groups if group.name == "0")


def test_of_two_equal_channels_one_is_free_and_the_other_is_not():
    module = network()
    with torch.no_grad():
        module[0].weight[3], module[0].bias[3] = module[0].weight[1], module[0].bias[1]
    order = ranked(scores.get("obs")(first(module), inputs(module)))
    assert order[0] in (1, 3)
    assert order[1] not in (1, 3)


def test_a_channel_that_nobody_reads_goes_first():
    module = network()
    with torch.no_grad():
        module[2].weight[:, 4] = 0
    assert ranked(scores.get("obs")(first(module), inputs(module)))[0] == 4


def test_the_first_cost_is_the_error_that_is_left_after_a_refit():
    """Against least squares on the same patches."""
    module, given = network(), inputs(network())
    values = scores.get("obs")(first(module), given)
    moments = given.moments["2.weight"]
    covariance, weight = moments.covariance[0], module[2].weight.detach().double().flatten(1)
    variance = float(((weight @ covariance) * weight).sum())
    loaded = covariance + 0.01 * covariance.diagonal().mean() * torch.eye(54)
    costs = []
    for channel in range(6):
        gone = torch.arange(9) + channel * 9
        rest = torch.tensor([place for place in range(54) if place not in gone.tolist()])
        # the growth of w' H w when the channel goes and the rest moves freely
        schur = loaded[gone][:, gone] - loaded[gone][:, rest] @ torch.linalg.solve(
            loaded[rest][:, rest], loaded[rest][:, gone]
        )
        costs.append(float((weight[:, gone] @ schur * weight[:, gone]).sum()) / variance)
    assert ranked(values)[0] == int(np.argmin(costs))
    assert values.min() == pytest.approx(min(costs), rel=1e-6)


def test_values_do_not_fall_along_the_elimination_and_need_images():
    module = network(40)
    values = scores.get("obs")(first(module), inputs(module))
    assert (values > 0).all()
    assert len(np.unique(values)) == 40
    with pytest.raises(RequestError, match="needs training or calibration images"):
        scores.get("obs")(first(module), ScoringInputs(module))


def upscaling():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.ConvTranspose2d(6, 8, 2, stride=2), nn.Flatten(), nn.Linear(1152, 4)
    ).eval()


def test_channels_whose_only_reader_cannot_be_measured_count_by_its_weights_and_this_is_said():
    module = upscaling()
    with pytest.warns(UserWarning, match=r"cannot measure what the readers of group 0 read \(2\)"):
        values = scores.get("obs")(first(module), inputs(module))
    squares = module[2].weight.detach().double().square().sum((1, 2, 3))
    assert (ranked(values) == np.argsort(squares.numpy())).all()
    assert values.sum() == pytest.approx(1, rel=1e-4)  # as large as the costs of unrelated inputs that are measured
    assert (values > 0).all()


class Forked(nn.Module):
    """Channels that a convolution and a transposed one read."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.one, self.known, self.up = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 5, 3), nn.ConvTranspose2d(6, 5, 3)
        with torch.no_grad():
            self.known.weight[:, 2] = 0
            self.one.weight[4] *= 5

    def forward(self, x):
        x = self.one(x).relu()
        return self.known(x).sum((2, 3)) + self.up(x).sum((2, 3))


def test_a_reader_that_cannot_be_measured_counts_beside_one_that_can():
    module = Forked().eval()
    given = inputs(module)
    group = trace_channels(module, SHAPE).groups[0]
    values = scores.get("obs")(group, given)
    moments = given.moments["known.weight"]
    powers = (moments.gram[0].diagonal() / moments.rows).reshape(6, 9).mean(1)
    shares = powers * module.up.weight.detach().double().square().sum((1, 2, 3))
    shares /= shares.sum()
    assert ranked(values)[-1] == 4  # it is large where it is read
    assert values[2] >= float(shares[2]) * (1 - 1e-9)  # free for the reader that is known
    known = replace(group, tensors=tuple(place for place in group.tensors if place.member.tensor != "up.weight"))
    alone = elimination(known, given.tensors, given.moments)
    assert alone[2] == pytest.approx(0, abs=1e-12)
    assert values.min() == pytest.approx(float(shares[2]), rel=1e-6)


def test_readers_that_were_not_seen_do_not_make_channels_free():
    module = network()
    group = first(module)
    unread = replace(group, tensors=tuple(place for place in group.tensors if place.member.role == "out"))
    with pytest.warns(UserWarning, match="none were seen"):
        assert (elimination(unread, inputs(module).tensors, {}) > 0).all()


def test_outputs_count_as_much_as_the_batch_norm_behind_them_lets_them():
    """A channel that only outputs with next to no scale read goes before one that an output with a scale reads."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 6, 1), nn.Conv2d(6, 4, 1, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(256, 4)
    ).eval()
    with torch.no_grad():
        module[2].weight.copy_(torch.tensor([1e-4, -1.0, 1.0, 1.0]))
        module[2].running_var.copy_(torch.tensor([1.0, 0.25, 1.0, 1.0]))
        module[1].weight[0] *= 10
        module[1].weight[1:, 3] = 0
    given = inputs(module)
    scales = output_scales(module, torch.randn(2, *SHAPE))
    assert scales.keys() == {"1.weight"}
    assert torch.allclose(scales["1.weight"], torch.tensor([1e-4, -2.0, 1.0, 1.0]), rtol=1e-4)
    group = first(module)
    plain, scaled = (elimination(group, given.tensors, given.moments, each) for each in (None, scales))
    assert ranked(scaled)[0] == 3
    assert scaled[3] < 1e-6 < plain[3]
    assert scores.get("obs")(group, given) == pytest.approx(scaled)
    folded = {**given.tensors, "1.weight": module[1].weight * scales["1.weight"][:, None, None, None]}
    assert elimination(group, folded, given.moments) == pytest.approx(scaled, rel=1e-6)


def test_weights_in_double_precision_stay_as_they_are():
    module = network().double()
    images = torch.randn(64, *SHAPE, dtype=torch.float64)
    before = module[2].weight.detach().clone()
    scores.get("obs")(first(module), ScoringInputs(module, batches=[(images, None)]))
    assert torch.equal(module[2].weight, before)


class Tied(nn.Module):
    """Channels that one weight reads with two biases."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two, self.three = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 5, 3), nn.Conv2d(6, 5, 3)
        self.three.weight = self.two.weight

    def forward(self, x):
        x = self.one(x).relu()
        return self.two(x).sum((2, 3)) + self.three(x).sum((2, 3))


def test_a_weight_that_is_read_with_several_biases_counts():
    module = Tied().eval()
    with pytest.warns(UserWarning, match="cannot measure what the readers of group one read"):
        values = scores.get("obs")(trace_channels(module, SHAPE).groups[0], inputs(module))
    squares = module.two.weight.detach().square().sum((0, 2, 3))
    assert (values > 0).all()
    assert (ranked(values) == np.argsort(squares.numpy())).all()
