"""The training that goes with a pruning takes a loss, too."""

import pytest

from edgecr.methods import methods
from edgecr.training import loop
from edgecr.weights import hash_tensors
from tests.workplace import context, subject

TRAIN = {"epochs": 1, "batch": 16, "lr": 0.05, "precision": "fp32"}
SCHEDULES = {
    "iterative": {"kind": "iterative", "steps": 2},
    "masked": {"kind": "exponential", "steps": 2, "every": 1},
    "slim": {"kind": "exponential", "steps": 2, "every": 1, "slim": "each"},
}


def pruned(folder, schedule, given, **extra):
    keys = {"sparsity": 0.25, "align": "off", "when": SCHEDULES[schedule] | {"retrain": TRAIN | extra}}
    return methods.get("prune").parse(keys).apply(given, context(folder, baseline=lambda: subject(seed=5)))


@pytest.mark.parametrize(("teacher", "seed"), [("before", 0), ("baseline", 5)])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_unpruned_model_teaches_in_every_round(tmp_path, monkeypatch, schedule, teacher, seed):
    plain = pruned(tmp_path / "plain", schedule, subject())
    taught, fit = [], loop.fit

    def watched(module, options, loss, place, observers=(), **extra):
        history = fit(module, options, loss, place, observers, **extra)
        taught.append(hash_tensors({name: tensor.contiguous() for name, tensor in loss.teacher.state_dict().items()}))
        return history

    monkeypatch.setattr("edgecr.methods.prune.step.fit", watched)
    result = pruned(tmp_path / "kd", schedule, subject(), loss={"kd": {"teacher": teacher}})
    assert taught == [hash_tensors(subject(seed=seed).module.state_dict())] * (2 if schedule == "iterative" else 1)
    assert len(result.surgery) == len(plain.surgery) > 0
    assert hash_tensors(result.module.state_dict()) != hash_tensors(plain.module.state_dict())


def test_alpha_zero_prunes_to_the_bits_of_cross_entropy(tmp_path):
    """The golden bits of the old way: the loss decides nothing but the gradient."""
    kd = pruned(tmp_path / "kd", "iterative", subject(), loss={"kd": {"teacher": "before", "alpha": 0.0}})
    plain = pruned(tmp_path / "plain", "iterative", subject())
    assert hash_tensors(kd.module.state_dict()) == hash_tensors(plain.module.state_dict())
