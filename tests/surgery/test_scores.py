from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from edgecr.surgery.graph import trace_channels
from edgecr.surgery.scores import Evidence, ranked, scores


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
    evidence = Evidence(module)
    filters = torch.cat([module.one.weight.flatten(1), module.two.weight.flatten(1)], 1).detach()
    np.testing.assert_allclose(scores.get("l2")(group, evidence), filters.norm(dim=1).numpy(), rtol=1e-6)
    np.testing.assert_allclose(scores.get("l1")(group, evidence), filters.abs().sum(1).numpy(), rtol=1e-6)


def test_normalised_scores_do_not_grow_with_the_inputs() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 2, 1))
    for layer in module:
        nn.init.constant_(layer.weight, 0.5)
    graph, evidence = trace_channels(module, (3, 8, 8)), Evidence(module, normalise=True)
    for name in ("l1", "l2"):
        for group in graph.groups:
            np.testing.assert_allclose(scores.get(name)(group, evidence), np.full(4, 0.5))


def test_chance_is_seeded() -> None:
    module = Coupled()
    (group,) = trace_channels(module, (3, 8, 8)).groups
    draw = scores.get("random")
    one, same, other = (draw(group, Evidence(module, seed=seed)) for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


def test_ranking_is_stable() -> None:
    assert ranked(np.array([1.0, 0.0, 1.0, 0.0])).tolist() == [1, 3, 0, 2]
