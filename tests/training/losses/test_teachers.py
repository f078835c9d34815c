"""Teachers: who may teach, what is completed from the recipe, and which code runs."""

import json

import pytest
from pydantic import ValidationError

from edgecr.core.errors import FileProblem, RequestError
from edgecr.models import architecture
from edgecr.recipe import Recipe
from edgecr.recipe.inputs import code_hashes, input_hashes, own_models
from edgecr.subject import Subject
from edgecr.training.context import Execution
from edgecr.training.losses.kd import DistillationOptions
from edgecr.training.losses.teachers import TeacherRun
from tests.workplace import context, subject

NET = """
from pathlib import Path
from torch import nn

def net(num_classes):
    Path("ran").touch()
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The folder of a run whose baseline is own code; the code leaves a mark when it runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "teacher_for_test.py").write_text(NET)
    made = Subject.create(architecture({"arch": "teacher_for_test:net"}), 3, (8, 8), 0, allow_code=True)
    made.save(tmp_path / "run" / "baseline")
    (tmp_path / "ran").unlink()
    return tmp_path / "run"


def ran(run):
    return (run.parent / "ran").exists()


PLACES = [
    lambda teacher: {"distill": {"teacher": teacher}},
    lambda teacher: {"finetune": {"loss": {"kd": {"teacher": teacher}}}},
    lambda teacher: {
        "prune": {"sparsity": 0.5, "when": {"kind": "iterative", "retrain": {"loss": {"kd": {"teacher": teacher}}}}}
    },
]


def recipe(place, **teacher):
    return Recipe.parse(
        {"name": "x", "model": {"arch": "resnet20"}, "data": {"name": "digits"}, "steps": [PLACES[place](teacher)]}
    )


@pytest.mark.parametrize("allow", [False, True])
@pytest.mark.parametrize("place", range(3))
def test_code_that_only_the_run_names_is_refused_before_anything_else(run, place, allow):
    with pytest.raises(RequestError, match=r"teacher_for_test:net, which the recipe does not name.*arch: 'teacher_for"):
        code_hashes(recipe(place, run=str(run)), Execution(allow_code=allow))
    with pytest.raises(RequestError, match="which the recipe does not name"):
        code_hashes(recipe(place, run=str(run), arch="other:net"), Execution(allow_code=allow))
    assert not ran(run)


@pytest.mark.parametrize("place", range(3))
def test_code_that_the_recipe_names_needs_permission_and_is_hashed(run, place):
    named = recipe(place, run=str(run), arch="teacher_for_test:net")
    assert own_models(named) == {"teacher_for_test:net"}
    with pytest.raises(RequestError, match="pass --allow-code"):
        code_hashes(named, Execution())
    assert code_hashes(named, Execution(allow_code=True))["teacher_for_test:net"].keys() == {"teacher_for_test.py"}
    assert not ran(run)
    before = input_hashes(*named.steps)
    (run / "baseline" / "tensors.safetensors").write_bytes(b"other")
    assert input_hashes(*named.steps) != before


def test_the_step_itself_runs_no_other_code(run, tmp_path):
    place = context(tmp_path, execution=Execution(allow_code=True))
    with pytest.raises(RequestError, match="which the recipe does not name"):
        TeacherRun(run=run).load(place)
    assert not ran(run)
    assert TeacherRun(run=run, arch="teacher_for_test:net").load(place).classes == 3
    assert ran(run)


def test_a_library_model_needs_no_name(tmp_path):
    subject().save(tmp_path / "run" / "baseline")
    assert code_hashes(recipe(0, run=str(tmp_path / "run")), Execution()) == {}
    with pytest.raises(FileProblem, match="not a finished run"):
        code_hashes(recipe(1, run=str(tmp_path / "none")), Execution())
    (tmp_path / "run" / "baseline" / "subject.json").write_text(json.dumps([1]))
    assert code_hashes(recipe(0, run=str(tmp_path / "run")), Execution()) == {}, "loading it refuses it"


def resolved(teacher, **model):
    return DistillationOptions.resolve({"teacher": teacher}, {"model": {"arch": "resnet20", "width": 0.5} | model})


def test_a_teacher_is_completed_from_the_recipes_model():
    assert resolved({"weights": "t.pt"}, weights="m.pt")["teacher"] == {
        "arch": "resnet20",
        "width": 0.5,
        "weights": "t.pt",
    }
    assert resolved({"arch": "resnet32", "weights": "t.pt"})["teacher"] == {"arch": "resnet32", "weights": "t.pt"}
    assert resolved({"run": "r"})["teacher"] == {"run": "r"}
    assert resolved({"run": "r"}, arch="own:net")["teacher"] == {"run": "r", "arch": "own:net"}
    assert resolved({"run": "r", "arch": "a:b"}, arch="own:net")["teacher"] == {"run": "r", "arch": "a:b"}
    assert resolved("before")["teacher"] == "before"


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        ("nobody", "'baseline' or 'before'"),
        ({"arch": "resnet20"}, "the teacher has no weights"),
        ({"run": "r", "arch": "resnet20"}, "only your own code"),
        ({"run": "r", "weights": "w"}, "not permitted"),
        (5, "arch"),
    ],
)
def test_nonsense_is_refused(teacher, words):
    with pytest.raises(ValidationError, match=words):
        DistillationOptions.parse({"teacher": teacher})
