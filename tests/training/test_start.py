"""Trainings that begin in the middle of their schedule, and the states that others keep for them."""

import pytest
import torch

from edgecr.core.errors import RequestError
from edgecr.methods.train import Train
from edgecr.training.loop import fit
from edgecr.training.losses import CrossEntropy
from edgecr.training.observers import Keeping, Observer
from edgecr.weights import read_tensors
from tests.workplace import context, network, options, subject

PLAIN = {"epochs": 2, "batch": 16, "lr": 0.05, "precision": "fp32", "warmup": 0.5}


class Noting(Observer):
    """Notes the rate and the images' order of each update by the state that it leads to."""

    def __init__(self):
        self.rates, self.first = {}, None

    def at_start(self, session):
        self.first = session.step_number
        self.rates[session.step_number] = session.rate

    def after_step(self, session):
        self.rates[session.step_number] = session.rate


class Killed(Exception):
    """The end of a process."""


class Killer(Observer):
    """Ends a training after an update."""

    def __init__(self, after):
        self.after = after

    def after_step(self, session):
        if session.step_number == self.after:
            raise Killed


def trained(folder, *observers, start=0, seed=7, **keys):
    module = network()
    history = fit(module, options(**PLAIN | keys), CrossEntropy(), context(folder, seed=seed), observers, start=start)
    return module, history


def same(one, other):
    first, second = one.state_dict(), other.state_dict()
    return all(torch.equal(first[name], second[name]) for name in first)


def test_the_rate_at_an_update_does_not_depend_on_where_the_training_began(tmp_path):
    whole, late = Noting(), Noting()
    trained(tmp_path / "one", whole)
    _, history = trained(tmp_path / "two", late, start=3)
    assert late.first == 3
    assert late.rates == {update: rate for update, rate in whole.rates.items() if update >= 3}
    assert [epoch.epoch for epoch in history.epochs] == [0, 1]


def test_a_training_from_the_first_update_is_the_whole_one(tmp_path):
    assert same(trained(tmp_path / "one")[0], trained(tmp_path / "two", start=0)[0])


def test_a_late_start_that_is_killed_goes_on_to_the_same_bits(tmp_path):
    expected, _ = trained(tmp_path / "one", start=3)
    with pytest.raises(Killed):
        trained(tmp_path / "two", Killer(6), start=3, checkpoint_s=1e-9)
    again = Noting()
    assert same(trained(tmp_path / "two", again, start=3, checkpoint_s=1e-9)[0], expected)
    assert again.first > 3


def test_a_start_behind_the_end_is_refused(tmp_path):
    with pytest.raises(RequestError, match=r"Update 10 lies beyond the 10 updates"):
        trained(tmp_path, start=10)


def test_states_are_kept_as_they_were_then(tmp_path):
    before, model = subject(), subject()
    step = Train.parse(PLAIN | {"snapshots": [0, 5, 10]})
    after = step.apply(model, context(tmp_path / "one"))
    kept = {int(file.stem): read_tensors(file) for file in (tmp_path / "one" / "snapshots").iterdir()}
    assert sorted(kept) == [0, 5, 10]
    for update, module in ((0, before.module), (10, after.module)):
        assert all(torch.equal(kept[update][name], each) for name, each in module.state_dict().items())
    assert any(not torch.equal(kept[5][name], each) for name, each in kept[0].items())
    plain = Train.parse(PLAIN).apply(subject(), context(tmp_path / "two"))
    assert same(plain.module, after.module)


def test_states_are_kept_by_a_training_that_was_killed(tmp_path):
    trained(tmp_path / "one", Keeping(tmp_path / "one", (4, 9)))
    for after in (4, 5, 9):
        folder = tmp_path / str(after)
        with pytest.raises(Killed):
            trained(folder, Keeping(folder, (4, 9)), Killer(after), checkpoint_s=1e-9)
        trained(folder, Keeping(folder, (4, 9)), checkpoint_s=1e-9)
        for update in (4, 9):
            one, other = (read_tensors(f / "snapshots" / f"{update}.safetensors") for f in (tmp_path / "one", folder))
            assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_state_behind_the_end_is_refused(tmp_path):
    with pytest.raises(RequestError, match=r"snapshots: 11 lies beyond the 10 updates"):
        Train.parse(PLAIN | {"snapshots": [0, 11]}).apply(subject(), context(tmp_path))
