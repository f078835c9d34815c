"""Learned scores: they begin as magnitudes, and leave the weights alone."""

import pytest
import torch

from edgecr.core.errors import RequestError
from edgecr.methods.finetune import FineTune
from edgecr.methods.sparsify.learned import first_scores, learned_scores
from edgecr.surgery.changes import BinaryWeights, WeightMask
from edgecr.surgery.changes.mask import set_to_zero
from edgecr.surgery.latent_weights.scored import highest
from edgecr.training.context import Execution
from tests.workplace import context, options, subject

QUICK = {"epochs": 1, "batch": 35}


def weights(module):
    return {name: p.detach().clone() for name, p in module.named_parameters() if p.dim() > 1}


@pytest.mark.parametrize("keep", [0.5, 0.1])
def test_before_any_learning_the_mask_is_that_of_magnitudes(keep):
    for weight in weights(subject().module).values():
        scores = first_scores(weight)
        assert torch.equal(highest([scores], keep)[0], highest([weight], keep)[0])
        assert torch.allclose(scores.abs().max(), torch.tensor((6 / weight[0].numel()) ** 0.5))
    assert not first_scores(torch.zeros(2, 3)).any()


def test_scores_learn_and_weights_and_biases_come_back_to_the_same_bits(tmp_path):
    given, before = subject(), subject()
    scores = learned_scores(given, 0.5, options(**QUICK), context(tmp_path))
    own = weights(before.module)
    assert scores.keys() == own.keys()
    assert not any(torch.equal(score, first_scores(own[name])) for name, score in scores.items())
    norms = {n for n, m in given.module.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    moved = {
        name
        for name, tensor in given.module.state_dict().items()
        if not torch.equal(tensor, before.module.state_dict()[name])
    }
    assert moved
    assert {name.rpartition(".")[0] for name in moved} <= norms
    assert all(p.requires_grad for p in given.module.parameters())
    again = learned_scores(subject(), 0.5, options(**QUICK), context(tmp_path))
    assert all(torch.equal(score, again[name]) for name, score in scores.items()), "read back"


def test_the_mask_that_was_learned_stays_while_the_weights_are_trained_again(tmp_path):
    given = subject()
    scores = learned_scores(given, 0.3, options(**QUICK), context(tmp_path / "scores"))
    masks = {name: highest([score], 0.3)[0] for name, score in scores.items()}
    set_to_zero(given.module, masks)
    chosen = given.with_changes(WeightMask.of(given.module, list(masks)))
    before = weights(chosen.module)
    after = weights(FineTune.parse(QUICK).apply(chosen, context(tmp_path / "after")).module)
    for name, mask in masks.items():
        assert not after[name][~mask].any()
        assert not torch.equal(after[name], before[name])


def test_what_is_zero_has_no_score(tmp_path):
    given = subject()
    name = next(iter(weights(given.module)))
    gone = torch.rand_like(given.module.get_parameter(name)) < 0.5
    set_to_zero(given.module, {name: ~gone})
    given = given.with_changes(WeightMask.of(given.module, [name]))
    assert not learned_scores(given, 0.4, options(**QUICK), context(tmp_path))[name][gone].any()


def test_excluded_layers_binary_weights_and_several_devices(tmp_path):
    given = subject()
    first = next(iter(weights(given.module))).removesuffix(".weight")
    found = learned_scores(given, 0.5, options(**QUICK), context(tmp_path), exclude=[first])
    assert f"{first}.weight" not in found
    with pytest.raises(RequestError, match="on one device only"):
        learned_scores(given, 0.5, options(**QUICK), context(tmp_path, execution=Execution(devices=2)))
    binary = given.with_changes(BinaryWeights(tensors=(f"{first}.weight",)))
    with pytest.raises(RequestError, match="these are binary"):
        learned_scores(binary, 0.5, options(**QUICK), context(tmp_path))
