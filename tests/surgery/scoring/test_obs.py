"""Greedy elimination: what the readers cannot make up for."""

import numpy as np
import pytest
import torch
from torch import nn

from edgecr.core.errors import RequestError
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
