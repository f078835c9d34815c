from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgecr.core.errors import RequestError
from edgecr.data.base import Dataset, ImageSet, Preprocessing
from edgecr.surgery.scoring.scores import ScoringInputs, ranked, scores
from edgecr.surgery.tracing.graph import trace_channels
from edgecr.training.sample import TrainingSample


class Coupled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.one(x) + self.two(x))


def test_coupled_layers_add_up() -> None:
    torch.manual_seed(0)
    module = Coupled()
    (group,) = trace_channels(module, (3, 8, 8)).groups
    evidence = ScoringInputs(module)
    filters = torch.cat([module.one.weight.flatten(1), module.two.weight.flatten(1)], 1).detach()
    np.testing.assert_allclose(scores.get("l2")(group, evidence), filters.norm(dim=1).numpy(), rtol=1e-6)
    np.testing.assert_allclose(scores.get("l1")(group, evidence), filters.abs().sum(1).numpy(), rtol=1e-6)
    read = module.head.weight.detach().abs().sum((0, 2, 3)).numpy()
    np.testing.assert_allclose(scores.get("l1_in")(group, evidence), read, rtol=1e-6)


def test_normalised_scores_do_not_grow_with_the_inputs() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 2, 1))
    for layer in module:
        nn.init.constant_(layer.weight, 0.5)
    graph, evidence = trace_channels(module, (3, 8, 8)), ScoringInputs(module, normalise=True)
    for name in ("l1", "l2"):
        for group in graph.groups:
            np.testing.assert_allclose(scores.get(name)(group, evidence), np.full(4, 0.5))


def test_chance_is_seeded() -> None:
    module = Coupled()
    (group,) = trace_channels(module, (3, 8, 8)).groups
    draw = scores.get("random")
    one, same, other = (draw(group, ScoringInputs(module, seed=seed)) for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


def test_ranking_is_stable() -> None:
    assert ranked(np.array([1.0, 0.0, 1.0, 0.0])).tolist() == [1, 3, 0, 2]


def test_scales_of_batch_norm_add_up_and_layers_without_one_are_brought_to_their_mean() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 6, 1), nn.ReLU(), nn.Conv2d(6, 2, 1))
    with torch.no_grad():
        module[1].weight.copy_(torch.tensor([1.0, -2.0, 3.0, 4.0]))
    first, second = trace_channels(module, (3, 8, 8)).groups
    evidence = ScoringInputs(module)
    np.testing.assert_array_equal(scores.get("bn")(first, evidence), [1, 2, 3, 4])
    values = scores.get("bn")(second, evidence)
    assert values.mean() == pytest.approx(2.5)
    assert (ranked(values) == ranked(scores.get("l1")(second, evidence))).all()


def test_the_scales_of_a_model_without_any_are_refused() -> None:
    module = Coupled()
    (group,) = trace_channels(module, (3, 8, 8)).groups
    with pytest.raises(RequestError, match="Use l2"):
        scores.get("bn")(group, ScoringInputs(module))


class Guarded(ImageSet):
    """Images that count how often they are looked at."""

    def __init__(self, count: int) -> None:
        self.labels, self.seen = np.arange(count) % 3, 0

    def images(self, indices: Any) -> Tensor:
        self.seen += len(indices)
        return torch.full((len(indices), 8, 8, 3), 128, dtype=torch.uint8)


def test_samples_come_from_the_training_images_alone() -> None:
    sets = {name: Guarded(count) for name, count in (("train", 50), ("validation", 5), ("test", 5))}
    names = ("a", "b", "c")
    scale = Preprocessing((0.5,) * 3, (0.25,) * 3, (8, 8))
    data = Dataset("d", names, preprocessing=scale, augmentation="shift", fingerprint="f", **sets)
    sample = TrainingSample(data, seed=3, batches=4, size=20)
    one, again = list(sample), list(sample)
    assert [len(labels) for _, labels in one] == [20, 20, 10, 20]
    assert all(torch.equal(a[1], b[1]) for a, b in zip(one, again))
    assert not torch.equal(one[0][1], next(iter(TrainingSample(data, seed=4, size=20)))[1])
    assert one[0][0].shape == (20, 3, 8, 8)
    assert float(one[0][0].mean()) == pytest.approx((128 / 255 - 0.5) / 0.25, abs=1e-5)
    assert (sets["validation"].seen, sets["test"].seen) == (0, 0)
    assert next(iter(TrainingSample(data, seed=0)))[0].shape[0] == 50
