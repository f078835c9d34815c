"""Tickets: what is found in random weights, and what never learns."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from edgecr.core.errors import RequestError
from edgecr.core.step_record import read_shown, record_file
from edgecr.methods.finetune import FineTune
from edgecr.methods.ticket import Ticket
from edgecr.methods.ticket.step import random_network
from edgecr.surgery.changes import BinaryWeights, WeightMask
from edgecr.surgery.promise import ZEROS
from edgecr.training.context import Execution
from tests.methods.test_binarise import copied, kept
from tests.workplace import context, subject

KEYS = {"epochs": 2, "batch": 35, "precision": "fp32", "sparsity": 0.7}


def asked(**keys):
    return Ticket.parse(KEYS | keys)


def weights(module):
    return {name: p.detach() for name, p in module.named_parameters() if p.dim() > 1}


def test_biprop_in_weights_of_one_size_is_edge_popup_and_no_decay_reaches_weights(tmp_path):
    given = subject()
    keys = {"init": "signed_constant", "weight_decay": 0.1}
    popup, prop = (
        weights(asked(algorithm=name, **keys).apply(given, context(tmp_path / name)).module)
        for name in ("edge_popup", "biprop")
    )
    for name, weight in popup.items():
        assert torch.allclose(weight, prop[name])
        zero, size = weight.abs().unique().tolist()
        assert zero == 0
        assert size == pytest.approx(math.sqrt(2 / weight[0].numel()))


@pytest.mark.parametrize("algorithm", ["edge_popup", "biprop"])
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_weights_are_those_of_the_random_network_or_zero(tmp_path, algorithm, scope):
    method, given = asked(algorithm=algorithm, scope=scope, init="kaiming_normal"), subject()
    random = weights(random_network(method, given, context(tmp_path)).module)
    result = method.apply(given, context(tmp_path))
    found = weights(result.module)
    left = {name: weight != 0 for name, weight in found.items()}
    gone = sum(int((~mask).sum()) for mask in left.values())
    total = sum(weight.numel() for weight in found.values())
    if scope == "layer":
        assert all(int((~mask).sum()) == int(0.7 * mask.numel() + 1e-6) for mask in left.values())
    else:
        assert gone == int(0.7 * total + 1e-6)
    for name, weight in found.items():
        masked = random[name] * left[name]
        if algorithm == "edge_popup":
            assert torch.equal(weight, masked), "weights never learn"
        else:
            assert torch.equal(weight.sign(), masked.sign())
            assert len(weight[left[name]].abs().unique()) <= 1
            assert torch.allclose(weight.abs().sum(), masked.abs().sum(), rtol=1e-4)
    assert result.promise().total(ZEROS) == gone
    assert kept(result)
    assert [type(change) for change in result.surgery] == [WeightMask, BinaryWeights][: 1 + (algorithm == "biprop")]


def test_norms_are_neutral_unless_they_learn_and_the_record_says_so(tmp_path):
    frozen = asked().apply(subject(), context(tmp_path / "frozen"))
    learned = asked(affine="learned").apply(subject(), context(tmp_path / "learned"))
    for result, neutral in ((frozen, True), (learned, False)):
        norms = [m for m in result.module.modules() if isinstance(m, nn.BatchNorm2d)]
        assert all(bool((m.weight == 1).all() and (m.bias == 0).all()) == neutral for m in norms)
        assert any(bool(m.running_mean.any()) for m in norms), "statistics are those of the images"
        assert all(p.requires_grad for p in result.module.parameters())
        assert not [m.bias for m in result.module.modules() if isinstance(m, nn.Linear) and m.bias.any()]
    shown = [read_shown(record_file(tmp_path / name, "ticket")) for name in ("frozen", "learned")]
    assert "the trained weights are gone" in shown[0].facts["found in"]
    assert ["norms" in each.facts for each in shown] == [True, False]
    assert all("biases" in each.facts for each in shown)


def size(network, name):
    return float(network.module.get_parameter(name).detach().abs().max())


@pytest.mark.parametrize("sparsity", [0.5, 0.9])
def test_random_weights_are_enlarged_for_the_inputs_that_are_left(tmp_path, sparsity):
    given = subject()
    name, weight = next(iter(weights(given.module).items()))
    plain, scaled, legacy = (
        size(random_network(asked(sparsity=sparsity, scale_fan=how), given, context(tmp_path)), name)
        for how in ("none", "keep", "legacy")
    )
    assert math.isclose(plain, math.sqrt(2 / weight[0].numel()), rel_tol=1e-5)
    assert math.isclose(scaled, plain / math.sqrt(1 - sparsity), rel_tol=1e-5)
    assert math.isclose(legacy, plain / math.sqrt(sparsity), rel_tol=1e-5)
    assert math.isclose(legacy, scaled, rel_tol=1e-5) == (sparsity == 0.5)


def test_the_seed_alone_decides_the_random_network(tmp_path):
    one, other = (weights(random_network(asked(), subject(seed), context(tmp_path)).module) for seed in (0, 5))
    third = weights(random_network(asked(), subject(), context(tmp_path, seed=8)).module)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not any(torch.equal(one[name], third[name]) for name in one)


def test_the_ramp_begins_at_a_half_and_ends_at_the_sparsity():
    method = asked(scope="global", sparsity=0.9, epochs=20, ramp=10)
    found = [method.sparsity_in(epoch) for epoch in range(12)]
    golden = [0.5, 0.6084, 0.6952, 0.7628, 0.8136, 0.85, 0.8744, 0.8892, 0.8968, 0.8996, 0.9, 0.9]
    assert found == pytest.approx(golden, abs=1e-12)
    assert asked(scope="global", sparsity=0.4).ramp_epochs == 0
    assert asked(scope="global", sparsity=0.9, epochs=100).ramp_epochs == 10


def test_a_ramp_ends_at_the_asked_sparsity_and_a_killed_search_at_the_same_bits(tmp_path, monkeypatch):
    from edgecr.training.session import TrainingState

    method = asked(algorithm="biprop", scope="global", sparsity=0.9, epochs=3, ramp=2, checkpoint_s=1e-9)
    whole = method.apply(subject(), context(tmp_path / "whole"))
    step = TrainingState.step

    def until(self, images, labels):
        if self.step_number == 3:
            raise KeyboardInterrupt
        step(self, images, labels)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingState, "step", until)
        with pytest.raises(KeyboardInterrupt):
            method.apply(subject(), context(tmp_path / "killed"))
    resumed = method.apply(subject(), context(tmp_path / "killed"))
    own, other = whole.module.state_dict(), resumed.module.state_dict()
    assert all(torch.equal(own[name], other[name]) for name in own)
    found = weights(whole.module).values()
    assert sum(int((each == 0).sum()) for each in found) == int(0.9 * sum(each.numel() for each in found))


def test_a_later_training_keeps_the_ticket_and_teaches_its_weights(tmp_path):
    ticket = asked(algorithm="biprop").apply(subject(), context(tmp_path / "ticket"))
    zeros = {name: weight == 0 for name, weight in weights(ticket.module).items()}
    after = FineTune.parse({"epochs": 1, "batch": 35, "sharpness": "sam"}).apply(
        copied(ticket, tmp_path / "before"), context(tmp_path / "after")
    )
    assert kept(after)
    assert all(bool((after.module.get_parameter(name)[gone] == 0).all()) for name, gone in zeros.items())


def test_a_ticket_under_sam_and_with_a_teacher(tmp_path):
    method = asked(sharpness="sam", loss={"kd": {"teacher": "before"}})
    assert kept(method.apply(subject(), context(tmp_path)))


def test_earlier_promises_and_several_devices_are_refused(tmp_path):
    ticket = asked().apply(subject(), context(tmp_path))
    with pytest.raises(RequestError, match="promised zeros"):
        asked().apply(ticket, context(tmp_path))
    with pytest.raises(RequestError, match="on one device only"):
        asked().apply(subject(), context(tmp_path, execution=Execution(devices=2)))


@pytest.mark.parametrize(
    ("keys", "word"),
    [
        ({"sparsity": 0.0}, "greater than 0"),
        ({"sparsity": 1.0}, "less than 1"),
        ({"ramp": 1}, "ramp does nothing with scope: layer"),
        ({"ramp": 1, "scope": "global", "sparsity": 0.5}, "does nothing at a sparsity"),
        ({"ramp": 2, "scope": "global"}, "must end within the 2 epochs"),
        ({"ramp": 1, "scope": "global", "keep": "best"}, "keep: best"),
        ({"algorithm": "popup"}, "edge_popup"),
    ],
)
def test_options_without_effect_are_refused(keys, word):
    with pytest.raises(ValidationError, match=word):
        asked(**keys)


def test_no_state_is_kept_of_a_ticket():
    with pytest.raises(ValidationError, match="snapshots"):
        Ticket.parse({"sparsity": 0.5, "epochs": 2, "snapshots": [5]})
