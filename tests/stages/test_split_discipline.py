"""Every split keeps to its role: images that are looked at outside it stop whoever looks."""

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from edgecr.core.progress import Monitor
from edgecr.data.base import Dataset, ImageSet, Preprocessing
from edgecr.data.views import HeldOutData, LearningData, ProofData
from edgecr.exporters import exporters, load_target
from edgecr.methods.base import methods
from edgecr.recipe import Recipe
from edgecr.run import Run
from edgecr.stages.asked import question
from edgecr.stages.robustness import robustness
from edgecr.training.context import Execution, StepContext
from edgecr.training.observers import Validation
from tests.workplace import COLOURS, dataset, subject

TRAIN = {"epochs": 2, "batch": 16, "lr": 0.05, "precision": "fp32"}
RETRAIN = {**TRAIN, "keep": "best"}


class PoisonedError(Exception):
    """A split was looked at outside its role."""


class Roles:
    """The present role: what is being done with images right now."""

    def __init__(self):
        self.now = "learning"
        self.looked = set()

    @contextmanager
    def playing(self, role):
        before, self.now = self.now, role
        try:
            yield
        finally:
            self.now = before


class Poisoned(ImageSet):
    """Images for some roles only."""

    def __init__(self, roles, split, allowed, count=30):
        self.roles, self.split, self.allowed = roles, split, allowed
        self.labels = np.arange(count) % 3
        noise = np.random.default_rng(count).integers(-30, 56, (count, 8, 8, 3))
        self.pixels = torch.from_numpy((COLOURS[self.labels][:, None, None] + noise).clip(0, 255).astype(np.uint8))

    def images(self, indices):
        if self.roles.now not in self.allowed:
            raise PoisonedError(f"{self.split} images were looked at while {self.roles.now}")
        self.roles.looked.add((self.roles.now, self.split))
        return self.pixels[torch.as_tensor(np.asarray(indices))]


@pytest.fixture
def roles(monkeypatch):
    """Validation is the only part of a method that decides; all the rest learns."""
    roles = Roles()
    look = Validation.after_epoch

    def deciding(self, session):
        with roles.playing("deciding"):
            look(self, session)

    monkeypatch.setattr(Validation, "after_epoch", deciding)
    return roles


@pytest.fixture
def data(roles):
    sets = [
        Poisoned(roles, "train", {"learning", "calibrating"}, 48),
        Poisoned(roles, "validation", {"deciding", "proving"}),
        Poisoned(roles, "test", {"judging"}),
    ]
    shape = Preprocessing((0.4, 0.5, 0.6), (0.2, 0.25, 0.3), (8, 8))
    return Dataset("colours", ("red", "green", "blue"), *sets, shape, "crop-flip", "poisoned")


def test_the_poison_works(data, roles):
    for each, right, wrong in (
        (data.train, "learning", "deciding"),
        (data.validation, "proving", "learning"),
        (data.test, "judging", "proving"),
    ):
        with roles.playing(right):
            assert len(each.images([0])) == 1
        with roles.playing(wrong), pytest.raises(PoisonedError):
            each.images([0])


def apply(name, options, data, folder):
    context = StepContext(LearningData.of(data), 7, folder)
    return methods.get(name).parse(options).apply(subject(), context)


@pytest.mark.parametrize("keep", ["best", "last"])
@pytest.mark.parametrize("name", ["train", "finetune", "distill"])
def test_trainings_decide_on_validation_images(name, keep, data, roles, tmp_path):
    apply(name, {**TRAIN, "keep": keep}, data, tmp_path)
    assert roles.looked == {("learning", "train"), ("deciding", "validation")}


@pytest.mark.parametrize("score", ["taylor", "taylor_bn", "pfp"])
def test_scores_look_at_training_images(score, data, roles, tmp_path):
    apply("prune", {"score": score, "scope": "layer", "sparsity": 0.25, "align": "off"}, data, tmp_path)
    assert roles.looked == {("learning", "train")}


@pytest.mark.parametrize(
    "schedule",
    [
        {"kind": "iterative", "steps": 2, "retrain": RETRAIN},
        {"kind": "exponential", "start": 0, "steps": 2, "every": 2, "retrain": TRAIN},
    ],
    ids=lambda schedule: schedule["kind"],
)
def test_pruning_schedules_decide_on_validation_images(schedule, data, roles, tmp_path):
    options = {"score": "taylor", "sparsity": 0.25, "align": "off", "when": schedule}
    apply("prune", options, data, tmp_path)
    assert roles.looked == {("learning", "train"), ("deciding", "validation")}


def test_an_export_is_proven_on_validation_images(data, roles, tmp_path):
    with roles.playing("proving"):
        exporter, target = exporters.get("onnx")(), load_target("onnx")
        artifact = exporter.export(subject(), target, ProofData.of(data), tmp_path, {})
    assert roles.looked == {("proving", "validation")}
    assert artifact.parity["images"] == 30


def test_calibration_images_are_training_images(data, roles):
    with roles.playing("calibrating"):
        assert len(ProofData.of(data).calibration(10)) == 10
    assert roles.looked == {("calibrating", "train")}


def recipe():
    return Recipe.parse({
        "name": "poisoned", "data": {"name": "digits"},
        "model": {"arch": "resnet20", "width": 0.25, "blocks": [1, 1, 1]},
        "steps": [{"train": RETRAIN}, {"prune": {"score": "taylor", "sparsity": 0.25, "align": "off"}}],
    })  # fmt: skip


def test_robustness_is_judged_on_test_images(data, roles, tmp_path):
    run, exporter, proof = Run(tmp_path), exporters.get("onnx")(), ProofData.of(dataset(size=8))
    for role in ("baseline", "candidate"):
        exporter.export(subject(), load_target("onnx"), proof, run.export("onnx") / role, {})
    run.begin(question(recipe(), "", data), "", {})
    with roles.playing("judging"):
        answered = robustness(run, "noise5", "onnx", HeldOutData.of(data), 9, Monitor())
    assert roles.looked == {("judging", "test")}
    assert len(answered.indices) == 9


def test_a_whole_recipe_gives_each_stage_its_own_images(data, roles, tmp_path, monkeypatch):
    """The pipeline hands over the views: a stage that got another one would be stopped."""
    from edgecr import pipeline
    from edgecr.stages.step_store import StepStore

    def played(role, work):
        def playing(*arguments, **options):
            with roles.playing(role):
                return work(*arguments, **options)

        return playing

    monkeypatch.setattr(pipeline, "try_role", played("proving", pipeline.try_role))
    monkeypatch.setattr(pipeline, "robustness", played("judging", pipeline.robustness))
    monkeypatch.setattr(pipeline, "measure", lambda *_, **__: SimpleNamespace(error=""))
    monkeypatch.setattr(pipeline.Work, "judge", lambda self: None)
    execution, run = Execution(), Run(tmp_path / "run")
    run.begin(question(recipe(), "", data), "", {})
    pipeline.Work(recipe(), run, data, StepStore.beside(tmp_path, execution), execution, Monitor()).finish()
    assert roles.looked == {
        ("learning", "train"), ("deciding", "validation"), ("proving", "validation"), ("judging", "test"),
    }  # fmt: skip
