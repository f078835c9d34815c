"""The commands that list and show what there is."""

import json

import pytest
from typer.testing import CliRunner

from edgecr.cli import app
from edgecr.core.errors import EdgecrError


def run(*words):
    return CliRunner().invoke(app, list(words), catch_exceptions=False)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("recipes", "list"), "quickstart"),
        (("recipes", "show", "quickstart"), "# Purpose"),
        (("recipes", "show", "papers/ncsu2023/kd_75", "--resolved"), "stem_width: 64"),
        (
            ("recipes", "validate", "quickstart", "papers/ncsu2023/kd_60"),
            "papers/ncsu2023/kd_60: good (2 steps, 4 gates)",
        ),
        (("devices", "list"), "jetson"),
        (("devices", "show", "cpu"), "transport"),
        (("targets", "list"), "onnx-embedded"),
        (("targets", "show", "onnx"), "opset"),
        (("targets", "show", "tensorrt-jetpack6-fp16-2to4"), "sparsity: true"),
        (("methods", "list"), "distill"),
        (("methods", "show", "distill"), "temperature"),
        (("suites", "list"), "noise5"),
        (("suites", "show", "noise5"), "RandomFog"),
        (("models", "list"), "resnet18_cifar"),
        (("models", "show", "resnet20"), "269,722 parameters, 40,551,040 MACs"),
        (("models", "show", "resnet18_cifar", "--set", "stem=conv-pool"), "44.734 MB"),
        (("models", "show", "mobilenet_v1", "--set", "width=0.25"), "mobilenet_v1 at 224x224: 215,642 parameters"),
        (("models", "show", "resnet20", "--set", "width=0.5", "--layers"), "conv1"),
    ],
)
def test_what_is_shown(words, expected):
    done = run(*words)
    assert done.exit_code == 0
    assert expected in done.output


@pytest.mark.parametrize("group", ["recipes", "devices", "targets", "methods", "suites", "models"])
def test_a_group_without_a_verb_lists_what_there_is(group):
    bare, listed = run(group), run(group, "list")
    assert (bare.exit_code, bare.output) == (0, listed.output)
    assert "Usage" not in bare.output
    assert "Without a command: list." in " ".join(run(group, "--help").output.split())


def test_a_group_with_a_verb_does_not_list_too():
    lines = run("methods", "show", "train").output.splitlines()
    assert not any(line.startswith("distill") for line in lines)


def test_an_unknown_verb_is_an_error():
    assert run("devices", "lst").exit_code == 2


def test_json_of_a_model():
    assert json.loads(run("models", "show", "resnet20", "--json").output)["params"] == 269722


def test_the_schema_of_recipes_is_written(tmp_path):
    assert run("recipes", "schema", "-o", str(tmp_path / "schema.json")).exit_code == 0
    assert "prune" in (tmp_path / "schema.json").read_text()


def test_a_bad_recipe_among_good_ones_is_exit_2(tmp_path):
    (tmp_path / "bad.yaml").write_text("name: bad\n")
    done = run("recipes", "validate", "quickstart", str(tmp_path / "bad.yaml"))
    assert done.exit_code == 2
    assert "quickstart: good" in done.output


def test_a_model_that_is_code_is_told_before_anything_runs(tmp_path):
    recipe = "name: own\nmodel: {arch: 'parts.nets:make'}\ndata: {name: digits}\nsteps: [{train: {epochs: 1}}]\n"
    (tmp_path / "own.yaml").write_text(recipe)
    done = run("recipes", "validate", str(tmp_path / "own.yaml"), "quickstart")
    assert done.exit_code == 0
    own, shipped = done.output.strip().splitlines()
    assert own.endswith("(1 steps, 0 gates); --allow-code is needed to run parts.nets:make")
    assert "--allow-code" not in shipped


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (("methods", "show", "distil"), "'distill'"),
        (("suites", "show", "noise"), "'noise5'"),
        (("recipes", "show", "quickstrt"), "'quickstart'"),
        (("models", "show", "resnet21"), "'resnet20'"),
        (("models", "show", "resnet20", "--set", "widht=1"), "width"),
        (("check", "nowhere"), "does not exist"),
        (("check", "."), "not a run folder"),
    ],
)
def test_near_names_are_suggested(words, near):
    with pytest.raises(EdgecrError) as caught:
        run(*words)
    assert near in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_file_is_checked_for_a_runtime_that_is_not_here(tmp_path):
    from tests.runners.tiny_device import write_onnx

    file = write_onnx(tmp_path / "model.onnx", 8)
    ready = run("targets", "check", "tensorrt-jetpack7-fp32", str(file))
    assert ready.exit_code == 0, ready.output
    assert (
        "ready for tensorrt-jetpack7-fp32, as far as documents tell; only the board's build proves it" in ready.output
    )
    assert ready.output.count("source  TensorRT's documentation of version") == 3
    old = run("targets", "check", "tensorrt-jetpack4-fp32", str(file))
    assert old.exit_code == 1
    assert "PROBLEM the file has opset" in old.output
    assert "not ready for tensorrt-jetpack4-fp32" in old.output
    missing = CliRunner().invoke(app, ["targets", "check", "tensorrt-jetpack4-fp32", str(tmp_path / "no.onnx")])
    assert isinstance(missing.exception, EdgecrError)
