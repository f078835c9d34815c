"""Seeds of any size work, and work derived from one seed does not repeat itself."""

import numpy as np
import pytest
import torch

from edgecr.core.seeds import derive_seed
from edgecr.data.batches import epoch_order
from edgecr.methods.base import methods
from edgecr.training.loop import fit
from edgecr.training.losses import CrossEntropy
from tests.workplace import context, network, options, subject

LARGEST = (2**31 - 1) * 1000 + 999
"""The seed of the last of a thousand steps under the largest seed that a recipe may have."""


def test_derived_seeds_are_fixed_for_good():
    assert derive_seed(7, 0, 3, 0) == 5936431090327848425
    assert derive_seed(1, 23) != derive_seed(12, 3)
    assert derive_seed(1, 2) != derive_seed(2, 1)
    assert all(0 <= derive_seed(n) < 2**63 for n in range(50))


@pytest.mark.parametrize("seed", [2**32 - 1, 2**32, 4_294_968_000, LARGEST, derive_seed(1)])
def test_an_epoch_has_an_order_for_any_seed(seed):
    orders = [tuple(epoch_order(50, each, epoch)) for each in (seed, seed - 1) for epoch in (0, 1)]
    assert len(set(orders)) == 4
    assert sorted(orders[0]) == list(range(50))


def test_large_seeds_do_not_fold_onto_small_ones():
    assert not np.array_equal(epoch_order(50, 2**32, 0), epoch_order(50, 0, 0))
    assert not np.array_equal(epoch_order(50, 2**32, 0), epoch_order(50, 0, 1))
    assert not np.array_equal(epoch_order(50, 2**32 + 5, 0), epoch_order(50, 5, 1))


def test_a_training_takes_the_largest_seed(tmp_path):
    fit(network(), options(epochs=1), CrossEntropy(), context(tmp_path, seed=LARGEST))


@pytest.mark.parametrize("score", ["random", "l2", "taylor", "taylor_bn", "pfp"])
def test_every_score_takes_the_largest_seed(score, tmp_path):
    step = methods.get("prune").parse({"score": score, "scope": "layer", "sparsity": 0.25, "align": "off"})
    step.apply(subject(), context(tmp_path, seed=LARGEST))


def test_rounds_of_pruning_do_not_repeat_one_another(tmp_path, monkeypatch):
    from edgecr.methods.prune import step as pruning

    seeds = []

    def noted(module, train_options, loss, place, *rest, **more):
        seeds.append(place.seed)
        return fit(module, train_options, loss, place, *rest, **more)

    monkeypatch.setattr(pruning, "fit", noted)
    retrain = {"epochs": 1, "batch": 32, "precision": "fp32"}
    step = methods.get("prune").parse({
        "sparsity": 0.25, "align": "off", "when": {"kind": "iterative", "steps": 3, "retrain": retrain},
    })  # fmt: skip
    first = step.apply(subject(), context(tmp_path / "first"))
    assert len(set(seeds)) == 3
    assert len({tuple(epoch_order(70, seed, 0)) for seed in seeds}) == 3
    again = step.apply(subject(), context(tmp_path / "again"))
    assert seeds[:3] == seeds[3:]
    assert all(torch.equal(*pair) for pair in zip(first.module.parameters(), again.module.parameters()))
