"""A task with two named outputs, its data and its model join from outside: no file of the package knows them."""

from typing import ClassVar, Literal

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from edgecr.core.errors import FileProblem, UnsupportedModel
from edgecr.core.progress import Monitor
from edgecr.data import sources
from edgecr.data.base import Dataset, DataSource, ImageSet
from edgecr.data.views import LearningData
from edgecr.exporters import ParityLimits
from edgecr.exporters.parity import compare, failures
from edgecr.models import families
from edgecr.models.base import Architecture
from edgecr.pipeline import compress
from edgecr.predictors import Predictor
from edgecr.predictors.torch_predictor import TorchPredictor
from edgecr.recipe import load_recipe
from edgecr.report.build import build_result
from edgecr.report.tables import accuracy_tables
from edgecr.robustness.evaluate import evaluate
from edgecr.robustness.examples import pick_examples
from edgecr.robustness.result import RobustnessResult
from edgecr.robustness.suites import suites
from edgecr.stages.judge import judged
from edgecr.tasks import Task, tasks
from edgecr.training.context import Execution
from edgecr.training.evaluate import accuracy


class Gauge(Task):
    """The brightness of an image, from 0 to 1, and the model's doubt about its answer."""

    name: ClassVar[str] = "gauge"
    metric: ClassVar[str] = "closeness"
    outputs: ClassVar[tuple[str, ...]] = ("value", "doubt")
    answers: ClassVar[tuple[str, ...]] = ("values", "doubts")

    def decode(self, outputs):
        return {"values": outputs["value"][:, 0], "doubts": outputs["doubt"]}

    def score(self, answers, targets):
        return 1 - np.abs(np.clip(answers["values"], 0, 1) - targets).clip(0, 1)


GAUGE = Gauge()


class Greys(ImageSet):
    """Images of one noisy grey each; the target is how bright it is."""

    def __init__(self, count, seed, size=8):
        random = np.random.default_rng(seed)
        self.labels = random.uniform(0.2, 0.8, count)
        noise = random.integers(-9, 10, (count, size, size, 3))
        self.pixels = (self.labels[:, None, None, None] * 255 + noise).clip(0, 255).astype(np.uint8)

    def images(self, indices):
        return torch.from_numpy(self.pixels[np.asarray(indices)])


class GreyImages(DataSource):
    """A source that names its task."""

    name: Literal["greys"]

    def load(self, monitor=None):
        sets = (Greys(60, 1), Greys(30, 2), Greys(40, 3))
        prepared = self.preprocessing(8, 8)
        return Dataset("greys", ("brightness",), *sets, prepared, "none", "greys-1", "greys-2", task="gauge")


class Photometer(nn.Module):
    """Mean colour of some filters; the outputs come in another order than the task's."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 8, 3, padding=1), nn.ReLU())
        self.value, self.doubt = nn.Linear(8, 1), nn.Linear(8, 1)

    def forward(self, images):
        seen = self.body(images).mean(dim=(2, 3))
        return {"doubt": self.doubt(seen)[:, 0].exp(), "value": self.value(seen)}


class Photometers(Architecture):
    arch: Literal["photometer"]

    def build(self, classes, *, allow_code=False):
        return Photometer()


@pytest.fixture(autouse=True)
def outsiders(monkeypatch):
    """The toys are registered for one test only."""
    for registry in (tasks, sources, families):
        monkeypatch.setattr(registry, "_items", dict(registry._items))
    tasks.register("gauge")(GAUGE)
    sources.register("greys")(GreyImages)
    families.register("photometer")(Photometers)


class Meter(Predictor):
    """Reads the brightness itself, with an error for dark images."""

    def __init__(self, error=0.0):
        self.error = error

    def predict(self, images):
        value = images.mean(axis=(1, 2, 3)) / 255
        read = value + self.error * (value < 0.5)
        return {"value": read[:, None].astype(np.float32), "doubt": np.zeros(len(images), np.float32)}


@pytest.fixture
def answered(tmp_path):
    roles = {"baseline": Meter(), "candidate": Meter(0.1)}
    return evaluate(roles, suites.get("noise5"), Greys(60, 3), tmp_path, task=GAUGE)


def test_images_are_graded_and_differences_stay_paired(answered, tmp_path):
    target = Greys(60, 3).labels
    before, after = (answered.scores(role, "clean") for role in ("baseline", "candidate"))
    assert before.min() > 0.98
    dark = Greys(60, 3).pixels.mean(axis=(1, 2, 3)) / 255 < 0.5
    np.testing.assert_allclose((before - after)[dark], 0.1, atol=0.02)
    np.testing.assert_array_equal(before[~dark], after[~dark])
    delta = answered.delta("clean")
    assert delta.value == pytest.approx(np.mean(after - before))
    assert delta.low < delta.value < delta.high < 0
    spread = answered.accuracy("candidate", "clean")
    assert spread.low < spread.value < spread.high
    assert delta.high - delta.low < 0.05  # paired: the images' own spread does not count
    again = RobustnessResult.load(tmp_path)
    assert (again.labels == target).all()
    assert again.mean_delta() == answered.mean_delta()


def test_examples_tell_the_score_and_no_right_or_wrong(answered):
    [first, *_] = pick_examples(answered, suites.get("noise5"), Greys(60, 3), ("brightness",), each=1)
    answer = first.answers["candidate"]
    assert answer.right is None
    assert answer.probability is None
    assert "(closeness 0." in answer.label


def test_the_report_names_what_was_measured(answered):
    result = build_result(name="x", id="x-1", gates={}, robustness=[answered])
    [table] = accuracy_tables(result)
    assert table.note.startswith("The figures are the mean closeness of an image")


def test_answers_to_a_task_that_nobody_knows_are_refused(answered, tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "_items", {})
    with pytest.raises(FileProblem, match="task 'gauge', which is not known here"):
        RobustnessResult.load(tmp_path)


def test_views_and_validation_use_the_datas_task():
    torch.manual_seed(0)
    data = LearningData.of(GreyImages(name="greys").load())
    module = Photometer()
    found = accuracy(module, data.validation, data.preprocessing, task=data.task)
    predictor = TorchPredictor(module, data.preprocessing, task=GAUGE)
    outputs = predictor.predict(data.validation.pixels)
    assert list(outputs) == ["value", "doubt"]
    scores = GAUGE.score(GAUGE.decode(outputs), data.validation.labels)
    assert found == pytest.approx(scores.mean(), abs=1e-6)
    with pytest.raises(UnsupportedModel, match="needs 'value', 'doubt'"):
        accuracy(nn.Flatten(), data.validation, data.preprocessing, task=data.task)


def test_parity_compares_every_output():
    class Doubtful(Meter):
        def predict(self, images):
            outputs = super().predict(images)
            return {**outputs, "doubt": outputs["doubt"] + 0.5}

    images, allowed = Greys(10, 0).pixels, ParityLimits()
    assert failures(compare(Meter(), Meter(), images, allowed, GAUGE), allowed) == []
    found = compare(Meter(), Doubtful(), images, allowed, GAUGE)
    assert found.max_abs == 0.5
    assert found.agreement == 0
    told = failures(found, allowed)
    assert "outputs differ by up to 0.5 (allowed 0.001)" in told[0]
    assert "output 'doubt' differs" in told[1]


RECIPE = """\
name: photometer
model: {arch: photometer}
data: {name: greys}
steps:
  - prune: {sparsity: 0.25, align: off}
export: [onnx]
measure: {devices: [DEVICE], batch: [1, 2]}
robustness: {suites: [noise5]}
gates:
  macs: {ratio: 0.9}
  clean_accuracy: {drop: 0.99}
  noise5_accuracy: {drop: 0.99}
  noise5_fog_accuracy: {min: 1.0}
"""


@pytest.mark.slow
def test_a_whole_run(mini_recipe, tmp_path):
    recipe = tmp_path / "photometer.yaml"
    recipe.write_text(RECIPE.replace("DEVICE", str(tmp_path / "quick.yaml")))
    run, result = compress(load_recipe(str(recipe)), "a test", tmp_path / "runs", Execution(threads=1), Monitor())
    file = onnx.load(next(run.folder.glob("export/onnx/candidate/*.onnx")))
    assert [output.name for output in file.graph.output] == ["value", "doubt"]
    answered = RobustnessResult.load(run.folder / "robustness/noise5@onnx")
    assert answered.task is GAUGE
    row = result.accuracy_of("noise5", "clean")
    assert row.candidate.value == pytest.approx(answered.scores("candidate", "clean").mean())
    assert row.candidate.note != "Wilson"
    found = {gate.name: gate.status.value for gate in judged(run).gates}
    assert found == {"macs": "PASS", "clean_accuracy": "PASS", "noise5_accuracy": "PASS", "noise5_fog_accuracy": "FAIL"}
