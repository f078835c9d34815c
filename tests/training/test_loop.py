import json
import os
import signal

import pytest
import torch
from torch import nn

from edgecr.core.errors import RequestError, TrainingDiverged, WorkError
from edgecr.core.progress import Bar, Monitor
from edgecr.training.context import Execution
from edgecr.training.evaluate import accuracy
from edgecr.training.loop import fit
from edgecr.training.losses import CrossEntropy
from edgecr.training.observers import Observer
from tests.workplace import context, dataset, network, options, train_once


def test_it_learns_and_says_so(tmp_path):
    module, history = train_once(tmp_path, epochs=12, lr=0.1)
    data = dataset()
    assert accuracy(module, data.test, data.preprocessing) > 0.9
    assert history.epochs[-1].loss < history.epochs[0].loss
    assert json.loads((tmp_path / "history.json").read_text()) == history.plain()
    assert not module.training
    assert module[0].weight.is_contiguous()


def test_same_seed_same_bits_and_the_callers_random_state_is_left_alone(tmp_path):
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    fit(module := network(), options(), CrossEntropy(), context(tmp_path / "a"))
    torch.manual_seed(1)
    fit(other := network(), options(), CrossEntropy(), context(tmp_path / "b"))
    torch.manual_seed(1)
    fit(third := network(), options(), CrossEntropy(), context(tmp_path / "c", seed=8))
    torch.manual_seed(1)
    assert torch.rand(1) == expected
    assert torch.equal(module[0].weight, other[0].weight)
    assert not torch.equal(module[0].weight, third[0].weight)


def test_bf16_follows_fp32(tmp_path):
    _, exact = train_once(tmp_path / "fp32")
    _, short = train_once(tmp_path / "bf16", precision="bf16")
    assert short.precision == "bf16"
    assert short.epochs[-1].loss == pytest.approx(exact.epochs[-1].loss, rel=0.05)


class Poison(Observer):
    """Spoils a weight after an update."""

    def __init__(self, step):
        self.step = step

    def after_step(self, session):
        if session.step_number == self.step:
            with torch.no_grad():
                session.module[0].weight.fill_(float("nan"))


def test_a_loss_that_is_no_number_stops_with_the_last_good_state_kept(tmp_path):
    class Broken(CrossEntropy):
        def step(self, model, views, targets):
            self.calls = getattr(self, "calls", 0) + 1
            loss, rightness = super().step(model, views, targets)
            return loss * (float("nan") if self.calls == 8 else 1), rightness

    with pytest.raises(TrainingDiverged, match="epoch 2, step 3 of 5: the loss is nan"):
        fit(network(), options(checkpoint_s=1e-9), Broken(), context(tmp_path))
    resumed, _ = train_once(tmp_path, checkpoint_s=1e-9)
    undisturbed, _ = train_once(tmp_path / "undisturbed")
    assert torch.equal(resumed[0].weight, undisturbed[0].weight)


def test_spoilt_weights_are_never_saved(tmp_path):
    with pytest.raises(TrainingDiverged, match=r"epoch 1, step \d of 5: 0.weight is no longer finite"):
        fit(network(), options(checkpoint_s=1e-9), CrossEntropy(), context(tmp_path), [Poison(4)])
    resumed, _ = train_once(tmp_path, checkpoint_s=1e-9)
    assert resumed[0].weight.isfinite().all()


def test_best_is_chosen_on_validation_and_the_first_of_equals(tmp_path):
    seen = []

    class Watch(Observer):
        def after_epoch(self, session):
            seen.append(session.module[0].weight.detach().clone(memory_format=torch.contiguous_format))

    module = network()
    history = fit(module, options(keep="best", epochs=6), CrossEntropy(), context(tmp_path), [Watch()])
    found = [epoch.validation for epoch in history.epochs]
    assert history.best == found.index(max(found))
    assert torch.equal(module[0].weight, seen[history.best])


def test_validation_every_few_epochs_includes_the_last(tmp_path):
    _, history = train_once(tmp_path, epochs=5, validate_every=2)
    assert [epoch.validation is not None for epoch in history.epochs] == [False, True, False, True, True]


def test_keep_best_without_validation_images_is_refused(tmp_path):
    data = dataset()
    data.validation.labels = data.validation.labels[:0]
    with pytest.raises(RequestError, match="keep: best"):
        fit(network(), options(keep="best"), CrossEntropy(), context(tmp_path, data))
    fit(network(), options(epochs=1), CrossEntropy(), context(tmp_path, data))


def test_a_rest_of_one_image_is_left_out_and_too_few_are_refused(tmp_path):
    history = fit(network(), options(batch=69, epochs=1), CrossEntropy(), context(tmp_path / "rest"))
    assert history.steps_per_epoch == 1
    with pytest.raises(RequestError, match="at least two images"):
        fit(network(), options(), CrossEntropy(), context(tmp_path / "few", dataset(train=1)))


def test_an_accelerator_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(RequestError, match="Cannot train on 1 x tpu"):
        fit(network(), options(), CrossEntropy(), context(tmp_path, execution=Execution(accelerator="tpu")))


def test_progress_is_told(tmp_path):
    told = []

    class Ears(Monitor):
        def event(self, kind, **facts):
            told.append((kind, facts))

        def bar(self, label, total, done=0):
            told.append((label, total))
            return Count()

    class Count(Bar):
        def advance(self, amount=1, **facts):
            told.append(amount)

    fit(network(), options(), CrossEntropy(), context(tmp_path, monitor=Ears()))
    assert told[0] == ("training", 15)
    assert sum(item for item in told if isinstance(item, int)) == 15
    assert [item[1]["epoch"] for item in told if isinstance(item, tuple) and item[0] == "epoch"] == [0, 1, 2]


def test_frozen_modules_and_odd_ones_train_too(tmp_path):
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.LayerNorm(8), nn.Linear(8, 3))
    module[1].requires_grad_(False)
    before = module[1].weight.clone()
    fit(module, options(epochs=1), CrossEntropy(), context(tmp_path))
    assert torch.equal(before, module[1].weight)


@pytest.mark.slow
def test_two_processes_share_each_batch(tmp_path):
    results = []
    for name in ("first", "second"):
        module = network()
        place = context(tmp_path / name, execution=Execution(devices=2))
        history = fit(module, options(epochs=2), CrossEntropy(), place)
        results.append(module[0].weight)
        assert len(history.epochs) == 2
    assert torch.equal(*results)
    assert not torch.equal(results[0], network()[0].weight)


class Dying:
    """An observer whose process is killed after the first update."""

    def at_start(self, session):
        pass

    def after_step(self, session):
        os.kill(os.getpid(), signal.SIGKILL)

    after_epoch = at_start


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_training_with_an_error_of_ours(tmp_path):
    with pytest.raises(WorkError, match=r"Training in 2 processes failed: process \d terminated with signal SIG"):
        fit(network(), options(epochs=1), CrossEntropy(), context(tmp_path, execution=Execution(devices=2)), [Dying()])
