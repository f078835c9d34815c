"""A step's identity holds all that the step reads, and nothing that it does not."""

import shutil
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from edgecr.cli import app
from edgecr.core.errors import FileProblem, RequestError
from edgecr.core.progress import Monitor
from edgecr.data import Dataset
from edgecr.pipeline import Work
from edgecr.recipe import Recipe, load_recipe
from edgecr.run import Run
from edgecr.stages.asked import question
from edgecr.stages.reload import load_again
from edgecr.stages.step_store import StepStore
from edgecr.training.context import Execution

RECIPE = """
name: mini
model: {arch: resnet20, width: 0.25, blocks: [1, 1, 1]}
data: {name: digits}
steps:
  - train: {epochs: 1, batch: 128}
  - distill: {epochs: 1, teacher: {weights: TEACHER}}
"""


@pytest.fixture
def teacher(tmp_path):
    file = tmp_path / "teacher.pth"
    file.write_bytes(b"one")
    return file


def work(folder, teacher, *changes, **extra):
    file = folder / "mini.yaml"
    file.write_text(RECIPE.replace("TEACHER", str(teacher)))
    recipe = load_recipe(str(file), changes)
    store = StepStore.beside(folder, Execution())
    return Work(recipe, Run(folder / "mini"), recipe.data.load(), store, Execution(), Monitor(), **extra)


@pytest.mark.parametrize(
    "change",
    [
        "data.mean=[0.4, 0.4, 0.4]",
        "data.std=[0.4, 0.4, 0.4]",
        "data.seed=1",
        "seed=1",
        "model.width=0.5",
        "steps.0.train.epochs=2",
    ],
)
def test_what_a_step_reads_is_in_its_key(tmp_path, teacher, change):
    assert work(tmp_path, teacher, change).inputs(0) != work(tmp_path, teacher).inputs(0)


@pytest.mark.parametrize(
    "change", ["name=other", "steps.1.distill.epochs=3", "robustness.images=5", "export=[onnx-embedded]"]
)
def test_what_a_step_does_not_read_is_not_in_its_key(tmp_path, teacher, change):
    assert work(tmp_path, teacher, change).inputs(0) == work(tmp_path, teacher).inputs(0)


def test_own_code_is_in_the_key(tmp_path, teacher):
    one, other = ({"net:make": {"net.py": digest}} for digest in "ab")
    assert work(tmp_path, teacher, code=one).inputs(0) != work(tmp_path, teacher, code=other).inputs(0)


def test_another_teacher_does_not_retrain_the_baseline(tmp_path, teacher):
    first, before = work(tmp_path, teacher), work(tmp_path, teacher).inputs(0)
    (first.step_folder(0) / "subject").mkdir(parents=True)
    distilled = first.inputs(1)
    teacher.write_bytes(b"two")
    assert first.inputs(0) == before
    assert first.inputs(1) != distilled


def test_a_step_depends_on_the_very_tensors_before_it(tmp_path, teacher):
    each = work(tmp_path, teacher)
    folder = each.step_folder(0) / "subject"
    folder.mkdir(parents=True)
    (folder / "tensors.safetensors").write_text("a")
    before = each.inputs(1)
    (folder / "tensors.safetensors").write_text("b")
    assert each.inputs(1) != before


def test_a_step_depends_on_the_baseline_that_teaches_it(tmp_path, teacher):
    steps = "steps=[{train: {epochs: 1}}, {distill: {epochs: 1}}, {finetune: {loss: LOSS}}]"
    taught, plain = (work(tmp_path, teacher, steps.replace("LOSS", loss)) for loss in ("kd", "cross_entropy"))
    for index in (0, 1):
        folder = taught.step_folder(index) / "subject"
        folder.mkdir(parents=True)
        (folder / "tensors.safetensors").write_text(str(index))
    before = taught.inputs(2), plain.inputs(2)
    assert before[0]["baseline"] == taught.before(1) != before[0]["before"]
    (taught.step_folder(0) / "subject" / "tensors.safetensors").write_text("other")
    assert taught.inputs(2) != before[0]
    assert plain.inputs(2) == before[1]


def test_test_images_are_not_part_of_what_steps_see(tmp_path, teacher):
    data = work(tmp_path, teacher).data
    assert data.seen_by_steps
    assert data.seen_by_steps != data.fingerprint


def test_a_step_is_shared_and_a_fresh_run_makes_it_anew(tmp_path, teacher):
    told = []

    class Voice(Monitor):
        def say(self, text):
            told.append(text)

    def done(name, **extra):
        each = replace(work(tmp_path, teacher), run=Run(tmp_path / name), monitor=Voice(), **extra)
        each.step(0)
        return told.pop(), (each.step_folder(0) / "subject" / "tensors.safetensors").read_bytes()

    first, tensors = done("a")
    assert first == "Step 1 of 2: train"
    assert done("b") == ("Step 1 of 2: train is taken from a, which did the same step on this machine", tensors)
    assert done("c", fresh=True) == (first, tensors)


def test_a_step_that_cannot_be_taken_over_says_why(tmp_path, teacher):
    told = []

    class Voice(Monitor):
        def say(self, text):
            told.append(text)

    def said(name, *changes, threads=1, **extra):
        each = replace(work(tmp_path, teacher, *changes), run=Run(tmp_path / name), monitor=Voice(), **extra)
        each = replace(each, store=replace(each.store, maker=each.store.maker | {"threads": threads}))
        each.step(0)
        return told.pop()

    def code(**files):
        return {"net:make": {f"{name}.py": digest for name, digest in files.items()}}

    plain = "Step 1 of 2: train"
    assert said("a", code=code(net="1", part="1")) == plain
    other = said("b", code=code(net="1", part="2", more="1"))
    assert other == f"{plain}, made anew: a did it with other code (more.py, part.py)"
    assert said("c", code=code(net="1", part="1"), threads=2) == f"{plain}, made anew: a did it with other threads"
    assert said("d", "seed=1", code=code(net="1", part="1"), threads=2).endswith("with other model before it, seed")
    assert said("e", "steps.0.train.batch=64", code=code(net="1")) == plain
    assert said("f", "data.seed=3", code=code(net="1", part="1")) == plain
    (next((tmp_path / ".steps").glob("*")) / "record.json").write_text("[1]")
    assert said("g", "seed=2", code=code(net="1", part="1"), fresh=True) == plain
    assert said("h", "seed=3", code=code(net="1", part="1")).startswith(plain)


def test_a_run_cannot_teach_itself(tmp_path, teacher):
    each = work(tmp_path, teacher)
    method = (
        Recipe.parse(
            {
                "name": "x",
                "model": {"arch": "resnet20"},
                "data": {"name": "digits"},
                "steps": [{"distill": {"teacher": {"run": str(each.run.folder)}}}],
            }
        )
        .steps[0]
        .method
    )
    with pytest.raises(RequestError, match="is the run being made"):
        each._refuse_own_run(method)


@pytest.fixture
def photographs(tmp_path):
    """A flat folder of images, whose splits are drawn, and a run that was made with it."""
    import numpy as np
    from PIL import Image

    root, random = tmp_path / "photographs", np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for number in range(12):
            pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    recipe = Recipe.parse(
        {"name": "x", "model": {"arch": "resnet20"}, "data": {"name": "folder", "root": str(root), "size": 8}}
    )
    run = Run(tmp_path / "runs" / "x")
    run.begin(question(recipe, "", recipe.data.load()), "", {})
    return root, run


def test_the_data_of_a_run_must_still_be_the_same(photographs):
    root, run = photographs
    assert isinstance(load_again(run, Monitor()), Dataset)
    shutil.copy(root / "cat" / "0.png", root / "cat" / "new.png")
    with pytest.raises(FileProblem, match="have changed since"):
        load_again(run, Monitor())


@pytest.mark.parametrize("command", ["robustness", "export"])
def test_commands_that_load_data_again_compare_it(photographs, command):
    root, run = photographs
    (root / "dog" / "3.png").unlink()
    done = CliRunner().invoke(app, [command, str(run.folder)])
    assert isinstance(done.exception, FileProblem)
    assert "have changed since" in str(done.exception)
