"""A loss from outside: two views and a teacher's features, named by a recipe in training and in prune's retraining."""

import copy
from contextlib import contextmanager

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from edgecr.core.errors import RecipeError
from edgecr.core.progress import Monitor
from edgecr.core.yaml_text import parse_yaml
from edgecr.pipeline import Work
from edgecr.recipe import as_yaml, checked, editor_schema
from edgecr.run import Run
from edgecr.stages.asked import question
from edgecr.stages.step_store import StepStore
from edgecr.training.context import Execution
from edgecr.training.loop import fit
from edgecr.training.losses import Loss, LossOptions, losses
from edgecr.training.options import TrainOptions
from edgecr.weights import hash_tensors
from tests.workplace import context, dataset, network, options

SEEN = []


class ToyOptions(LossOptions):
    """Agreement of two views, and of a layer with what it was before, on top of a squared error."""

    layer: str
    """The layer that is compared."""
    weight: float = 0.5
    """Weight of the agreement."""
    from_baseline: bool = False
    """Compare with the baseline instead of the model before this step."""

    @property
    def reads_baseline(self):
        return self.from_baseline

    def build(self, before, context):
        teacher = context.baseline() if self.from_baseline else before
        return Toy(teacher.module, self.layer, self.weight)


class Toy(Loss):
    """Knows nothing of cross-entropy, and changes from update to update: its teacher follows slowly."""

    views = 2

    def __init__(self, teacher, layer, weight):
        self.teacher, self.layer, self.weight = copy.deepcopy(teacher).eval(), layer, weight
        self.mean = torch.zeros(())

    def step(self, model, views, targets):
        both = torch.cat(list(views))
        with features(model, self.layer) as own:
            answers = model(both)
        with features(self.teacher, self.layer) as wanted, torch.no_grad():
            self.teacher(both)
        first, second = answers.chunk(2)
        apart = functional.mse_loss(first, second)
        taught = maps(own[0]).sub(maps(wanted[0])).square().mean()
        right = functional.one_hot(targets, answers.shape[1]).float()
        loss = functional.mse_loss(first, right) + self.weight * (apart + taught) + 0.01 * self.mean
        self.mean = 0.9 * self.mean + 0.1 * apart.detach()
        SEEN.append((type(model).__name__, *(view.shape for view in views), torch.equal(*views)))
        return loss, first.detach().argmax(1) == targets

    def identity(self):
        teacher = hash_tensors(self.teacher.state_dict())
        return {"loss": "toy", "layer": self.layer, "weight": self.weight, "teacher": teacher}

    def state(self):
        return {"mean": self.mean}

    def restore(self, tensors):
        self.mean = tensors["mean"]


def maps(features):
    """The spatial attention of a layer, comparable between different numbers of channels."""
    return functional.normalize(features.square().mean(1).flatten(1), dim=1)


@contextmanager
def features(model, layer):
    found = []
    hook = model.get_submodule(layer).register_forward_hook(lambda module, given, out: found.append(out))
    try:
        yield found
    finally:
        hook.remove()


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """The toy for one test; a user's own module would say ``@losses.register("toy")``."""
    monkeypatch.setattr(losses, "_items", dict(losses._items))
    losses.register("toy")(ToyOptions)
    SEEN.clear()


RECIPE = """
name: toys
model: {arch: resnet20, width: 0.25, blocks: [1, 1, 1]}
data: {name: digits}
steps:
  - train: {epochs: 1, batch: 16, precision: fp32, loss: {toy: {layer: layer2, weight: 0.3}}}
  - prune:
      sparsity: 0.25
      align: off
      when: SCHEDULE
"""
RETRAIN = "retrain: {epochs: 2, batch: 16, precision: fp32, loss: {toy: {layer: layer2, from_baseline: true}}}"
SCHEDULES = [
    "{kind: iterative, steps: 2, RETRAIN}",
    "{kind: exponential, steps: 2, every: 2, slim: each, RETRAIN}",
    "{kind: exponential, steps: 2, every: 2, masks: soft, RETRAIN}",
]


def recipe(schedule, text=RECIPE):
    return checked(parse_yaml(text.replace("SCHEDULE", schedule.replace("RETRAIN", RETRAIN)), "toys.yaml"))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_recipe_trains_and_prunes_with_a_loss_from_outside(tmp_path, schedule):
    asked, data, execution = recipe(schedule), dataset(size=8), Execution()
    assert checked(parse_yaml(as_yaml(asked), "again.yaml")) == asked
    run = Run(tmp_path / "run")
    run.begin(question(asked, "", data), as_yaml(asked), {})
    work = Work(asked, run, data, StepStore.beside(tmp_path, execution), execution, Monitor())
    work.step(0)
    assert len(SEEN) == 5
    baseline = hash_tensors(work.baseline().module.state_dict())
    work.step(1)
    rounds = 2 if "iterative" in schedule else 1
    assert len(SEEN) == 5 + rounds * 2 * 5
    assert all(first == second and first[0] > 1 for _, first, second, _ in SEEN)
    assert not any(same for *_, same in SEEN), "the views are augmented each in their own way"
    pruned = work.subject(2)
    assert len(pruned.surgery) >= rounds
    assert hash_tensors(work.baseline().module.state_dict()) == baseline
    assert work.inputs(1)["baseline"] == work.inputs(1)["before"]
    assert work.inputs(0)["baseline"] is None


def test_the_editor_and_mistakes_know_it(monkeypatch):
    with monkeypatch.context() as before:
        before.setattr(losses, "_items", {name: item for name, item in losses._items.items() if name != "toy"})
        with pytest.raises(RecipeError, match=r"steps\.0\.train\.epoch: unknown key"):
            recipe(SCHEDULES[0], RECIPE.replace("epochs: 1", "epoch: 1"))
    with pytest.raises(RecipeError, match=r"toys.yaml:6: steps.0.train.loss.toy.wieght: unknown key. Did you mean"):
        recipe(SCHEDULES[0], RECIPE.replace("weight: 0.3", "wieght: 0.3"))
    with pytest.raises(RecipeError, match=r"steps.0.train.loss: Unknown loss 'toi'. Did you mean 'toy'"):
        recipe(SCHEDULES[0], RECIPE.replace("toy: {layer", "toi: {layer"))
    with pytest.raises(RecipeError, match=r"toy\.layer: this key is required"):
        recipe(SCHEDULES[0], RECIPE.replace("layer: layer2, ", ""))
    assert "from_baseline" in str(editor_schema())
    with pytest.raises(ValidationError, match="label_smoothing does nothing with this loss"):
        TrainOptions.parse({"label_smoothing": 0.1, "loss": {"toy": {"layer": "0"}}})


def toy():
    return Toy(network(1), "3", 0.5)


class Stop(Exception):
    pass


@pytest.mark.parametrize("after", [1, 5, 7])
def test_a_loss_with_a_state_resumes_to_the_same_bits(tmp_path, monkeypatch, after):
    from edgecr.training.session import TrainingState

    undisturbed, history = network(), fit(module := network(), options(), toy(), context(tmp_path / "whole"))
    step = TrainingState.step

    def until(self, images, targets):
        if self.step_number == after:
            raise Stop
        step(self, images, targets)

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(TrainingState, "step", until)
        fit(network(), options(checkpoint_s=1e-9), toy(), context(tmp_path / "stopped"))
    told = fit(undisturbed, options(checkpoint_s=1e-9), toy(), context(tmp_path / "stopped"))
    assert hash_tensors(undisturbed.state_dict()) == hash_tensors(module.state_dict())
    assert [epoch.loss for epoch in told.epochs] == [epoch.loss for epoch in history.epochs]


@pytest.mark.slow
def test_several_processes_hook_layers_too(tmp_path):
    place = context(tmp_path, execution=Execution(devices=2))
    history = fit(network(), options(epochs=2), toy(), place)
    assert len(history.epochs) == 2
