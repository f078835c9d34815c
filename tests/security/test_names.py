"""Names that become paths stay in their folders, wherever they were read."""

import json
from pathlib import Path

import pytest

from edgecr.core import builtin
from edgecr.core.errors import EdgecrError, FileProblem, RecipeError, RequestError
from edgecr.core.names import LONGEST, PATTERN, inside, is_name
from edgecr.exporters.base import Target, load_target
from edgecr.recipe import Recipe, load_recipe
from edgecr.robustness.result import RobustnessResult, question_key
from edgecr.robustness.suites import suites
from edgecr.run import Run
from edgecr.runners.device import Device, load_device

ESCAPES = [
    "../x",
    "..",
    ".",
    "",
    "/etc/x",
    "a/../../x",
    "a/b",
    ".hidden",
    "-x",
    "a\\b",
    "a\0b",
    "a\n",
    "a b",
    "é",
    "x" * 81,
    "~",
    "a:b",
    "a*",
    "C:\\x",
]


@pytest.mark.parametrize("name", ESCAPES)
def test_an_escape_is_no_name(name, tmp_path):
    assert not is_name(name)
    for kind, text in (
        (load_device, f"name: {json.dumps(name)}\npurpose: p\nkind: cpu\ntransport: {{kind: local}}\n"),
        (load_target, f"name: {json.dumps(name)}\npurpose: p\nformat: onnx\n"),
        (
            load_recipe,
            f"name: {json.dumps(name)}\nmodel: {{arch: resnet20}}\ndata: {{name: digits}}\nsteps: [{{train: {{}}}}]\n",
        ),
    ):
        file = tmp_path / "f.yaml"
        file.write_text(text)
        with pytest.raises(RecipeError, match="name"):
            kind(str(file))


@pytest.mark.parametrize("kind", builtin.KINDS)
@pytest.mark.parametrize("name", [name for name in ESCAPES if name != "a/b"])
def test_an_escape_finds_no_file(kind, name, tmp_path, monkeypatch):
    (tmp_path / "work" / kind).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    for place in ("x.yaml", "work/x.yaml"):
        (tmp_path / place).write_text("secret")
    with pytest.raises(RequestError):
        builtin.find(kind, name)


def test_every_declared_name_has_the_one_pattern():
    for kind in (Recipe, Device, Target):
        schema = kind.model_json_schema()["properties"]["name"]
        assert (schema["pattern"], schema["maxLength"]) == (PATTERN, LONGEST)
    assert all(is_name(name) for name in suites)
    assert all(is_name(part) for kind in builtin.KINDS for name in builtin.names(kind) for part in name.split("/"))
    assert all(is_name(condition) for name in suites for condition in suites.get(name).conditions)


@pytest.mark.parametrize(
    "part", ["../x", "/etc/passwd", "a/../../b", "", "a//b", "./a", "a\\..\\b", "a\0", None, 3, ["a"]]
)
def test_a_part_that_leads_out_of_its_folder_is_refused(part, tmp_path):
    with pytest.raises(FileProblem, match="outside of itself"):
        inside(tmp_path, part)
    assert inside(tmp_path, "export/onnx/a..b.onnx") == tmp_path / "export" / "onnx" / "a..b.onnx"


def test_a_run_asks_for_no_path_outside_of_itself(tmp_path):
    run = Run(tmp_path)
    for ask in (
        lambda: run.step(0, "../../x"),
        lambda: run.subject("../x"),
        lambda: run.export("../../x"),
        lambda: run.measurement("../../x", "onnx"),
        lambda: run.measurement("cpu", "/../../x"),
        lambda: run.robustness("../x", "onnx"),
        lambda: run.stage("../../x"),
    ):
        with pytest.raises(FileProblem, match="outside of itself"):
            ask()


def test_a_stage_record_that_names_files_elsewhere_is_refused(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("x")
    run = Run(tmp_path / "run")
    (run.folder / "stages").mkdir(parents=True)
    for name in ("../secret", str(secret)):
        (run.folder / "stages" / "s.json").write_text(json.dumps({"key": "k", "outputs": {name: "0"}}))
        assert not run.finished("s", "k")
        with pytest.raises(FileProblem, match="outside of itself"):
            run.damaged("s")


def test_conditions_of_a_foreign_suite_lead_nowhere_else(tmp_path):
    plan = {
        "schema": 1,
        "conditions": ["../../elsewhere"],
        "suite": "s",
        "seed": 0,
        "indices": [],
        "labels": [],
        "roles": {},
    }
    (tmp_path / "robustness.json").write_text(json.dumps(plan | {"key": question_key(plan)}))
    with pytest.raises(FileProblem, match="outside of itself"):
        RobustnessResult.load(tmp_path)


@pytest.mark.parametrize("key", ["export", "measure.devices", "robustness.suites"])
def test_a_recipe_that_names_an_escape_is_refused_at_its_line(tmp_path, key):
    file = Path(tmp_path / "r.yaml")
    first, _, second = key.partition(".")
    part = f"{first}: ['../../x']" if not second else f"{first}: {{{second}: ['../../x']}}"
    file.write_text(f"name: r\nmodel: {{arch: resnet20}}\ndata: {{name: digits}}\nsteps: [{{train: {{}}}}]\n{part}\n")
    with pytest.raises(EdgecrError, match=r"r\.yaml:5"):
        load_recipe(str(file))
