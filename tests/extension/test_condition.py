"""A corruption with severities, and a suite of it, join from outside: no file of the package knows them."""

import numpy as np
import pytest
from typer.testing import CliRunner

from edgecr.cli import app
from edgecr.core.errors import RecipeError
from edgecr.core.progress import Monitor
from edgecr.pipeline import compress
from edgecr.predictors import Predictor
from edgecr.recipe import load_recipe
from edgecr.report.build import build_result
from edgecr.report.gates.judge import Gate
from edgecr.robustness.conditions import corruption, corruptions, declare_suite, suites
from edgecr.robustness.evaluate import evaluate
from edgecr.robustness.examples import pick_examples
from edgecr.robustness.result import RobustnessResult
from edgecr.stages.judge import judged
from edgecr.training.context import Execution
from tests.workplace import Memory

ROWS_LOST = {1: 1, 2: 2, 3: 4}
"""Black rows of an image of eight rows, by severity."""


@pytest.fixture(autouse=True)
def lines(monkeypatch):
    """The toy corruption and suite, for one test only."""
    for registry in (corruptions, suites):
        monkeypatch.setattr(registry, "_items", dict(registry._items))

    @corruption("stripes", {1: {"every": 8}, 2: {"every": 4}, 3: {"every": 2}})
    def stripes(image, random, every):
        image[random.integers(every) :: every] = 0
        return image

    return declare_suite("lines", "Rows of a camera that send nothing.", stripes)


class Fragile(Predictor):
    """Knows the colours of ``Memory``, until too many rows of an image are black."""

    def __init__(self, bears):
        self.bears = bears

    def predict(self, images):
        logits = images.mean(axis=(1, 2)).astype(np.float32)
        black = (images == 0).all(axis=(2, 3)).sum(axis=1)
        logits[black > self.bears] *= -1
        return {"logits": logits}


@pytest.fixture
def answered(lines, tmp_path):
    return evaluate({"baseline": Fragile(8), "candidate": Fragile(3)}, lines, Memory(20, 3), tmp_path)


def test_every_severity_is_a_condition_with_its_own_file(answered, lines, tmp_path):
    assert {path.name for path in tmp_path.glob("*.npz")} == {
        "clean.npz",
        "stripes-1.npz",
        "stripes-2.npz",
        "stripes-3.npz",
    }
    again = RobustnessResult.load(tmp_path)
    for result in (answered, again):
        found = [result.accuracy("candidate", name).value for name in lines.conditions]
        assert found == [1.0, 1.0, 1.0, 0.0]
        assert result.mean_accuracy("candidate").value == pytest.approx(2 / 3)
        assert result.mean_delta().value == pytest.approx(-1 / 3)


def test_gates_name_the_suite_a_corruption_and_one_condition(answered):
    gates = {
        "clean_accuracy": Gate(drop=0.0),
        "lines_accuracy": Gate(drop=0.34),
        "lines_stripes_accuracy": Gate(drop=0.33, confidence=0.9),
        "lines_stripes-2_accuracy": Gate(drop=0.0),
        "lines_stripes-3_accuracy": Gate(min=0.5),
    }
    result = build_result(name="x", id="x-1", gates=gates, robustness=[answered])
    assert [gate.status.value for gate in result.gates] == ["PASS", "PASS", "FAIL", "PASS", "FAIL"]
    rows = {row.condition: row for row in result.accuracy}
    assert list(rows) == ["clean", "stripes-1", "stripes-2", "stripes-3", "stripes-mean", "mean"]
    assert rows["stripes-mean"].delta.confidence == 0.9
    assert rows["stripes-mean"].delta.value == pytest.approx(rows["mean"].delta.value)


def test_examples_are_of_the_highest_severity(answered, lines):
    found = pick_examples(answered, lines, Memory(20, 3), ["red", "green", "blue"])
    assert [example.condition for example in found] == ["stripes-3"] * 3
    assert all(each.answers["baseline"].right and not each.answers["candidate"].right for each in found)


def test_another_function_of_the_same_name_is_asked_anew(answered, tmp_path, monkeypatch):
    monkeypatch.setattr(suites, "_items", {})
    monkeypatch.setattr(corruptions, "_items", {})

    @corruption("stripes", {1: {"every": 8}, 2: {"every": 4}, 3: {"every": 2}})
    def stripes(image, random, every):
        return image

    suite = declare_suite("lines", "Rows of a camera that send nothing.", stripes)
    anew = evaluate({"baseline": Fragile(8), "candidate": Fragile(3)}, suite, Memory(20, 3), tmp_path)
    assert anew.key != answered.key
    assert anew.accuracy("candidate", "stripes-3").value == 1.0


def test_commands_and_recipes_know_it(tmp_path):
    told = CliRunner().invoke(app, ["suites", "list"]).output
    assert "Rows of a camera that send nothing. Severities: 1, 2, 3." in told
    assert "stripes-3: stripes(every=2)" in CliRunner().invoke(app, ["suites", "show", "lines"]).output
    recipe = tmp_path / "x.yaml"
    recipe.write_text(
        "name: x\nmodel: {arch: resnet20}\ndata: {name: digits}\nsteps: [train: {epochs: 1}]\n"
        "robustness: {suites: [lines]}\n"
        "gates: {lines_stripes-3_accuracy: {drop: 0.1}, lines_stripes-4_accuracy: {min: 0}}\n"
    )
    with pytest.raises(
        RecipeError, match=r"(?s)1 mistake.*Unknown gate 'lines_stripes-4_accuracy'.*Did you mean"
    ) as told:
        load_recipe(str(recipe))


RECIPE = """\
name: striped
model: {arch: resnet20, width: 0.25, blocks: [1, 1, 1]}
data: {name: digits}
steps:
  - prune: {sparsity: 0.25, align: off}
measure: {devices: [DEVICE]}
robustness: {suites: [lines], images: 2}
gates:
  macs: {ratio: 1.0}
  lines_stripes_accuracy: {drop: 0.99}
  lines_stripes-3_accuracy: {min: 0.999}
"""


@pytest.mark.slow
def test_a_whole_run_is_judged_by_it(mini_recipe, tmp_path):
    mini_recipe.write_text(RECIPE.replace("DEVICE", str(tmp_path / "quick.yaml")))
    run, result = compress(load_recipe(str(mini_recipe)), "a test", tmp_path / "runs", Execution(threads=1), Monitor())
    found = {gate.name: gate.status.value for gate in judged(run).gates}
    assert found == {gate.name: gate.status.value for gate in result.gates}
    assert found["lines_stripes_accuracy"] == "PASS"
    assert found["lines_stripes-3_accuracy"] == "FAIL"
    page = (run.folder / "report.html").read_text()
    assert "stripes, severity 2" in page
    assert "stripes, mean of the severities" in page
