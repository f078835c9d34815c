import torch

from edgecr.methods.quantise import QuantisationAware
from edgecr.methods.train import Train
from edgecr.training.losses.rounded import RoundedLoss
from tests.workplace import context, subject

KEYS = {"epochs": 1, "batch": 32, "precision": "fp32"}


def test_it_compresses_gently_until_told_otherwise():
    assert QuantisationAware.compresses
    assert QuantisationAware().rate == Train().rate / 100
    assert QuantisationAware(lr=0.3).rate == 0.3


def test_it_trains_the_rounded_model_and_leaves_one_of_floats(tmp_path):
    before, after = subject(), QuantisationAware.parse(KEYS).apply(subject(), context(tmp_path))
    states = before.module.state_dict(), after.module.state_dict()
    assert states[0].keys() == states[1].keys()
    assert any(not torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_it_composes_with_distillation(tmp_path):
    asked = QuantisationAware.parse(KEYS | {"weight_bits": 7, "loss": {"kd": {"teacher": "before", "alpha": 1.0}}})
    loss = asked.build_loss(subject(), context(tmp_path))
    assert isinstance(loss, RoundedLoss)
    assert loss.weight_bits == 7
    assert loss.identity()["inner"]["loss"] == "distillation"
    assert not asked.needs_labels
