"""`edgecr.judge`: the verdicts of the command, as values."""

import numpy as np
import pytest

import edgecr
from tests.cli.colour_files import colour_file, images
from tests.conftest import QUICK_DEVICE
from tests.workplace import trusted

HALF = (0.5, 0.5, 0.5)


@pytest.fixture(scope="module")
def world(tmp_path_factory, config_folder):
    folder = tmp_path_factory.mktemp("judging")
    (folder / "quick.yaml").write_text(QUICK_DEVICE)
    trusted(folder / "quick.yaml")
    images(folder / "data")
    colour_file(folder / "base.onnx")
    colour_file(folder / "good.onnx", scale=2)
    colour_file(folder / "bad.onnx", order=np.eye(3))
    return folder


def test_each_candidate_gets_a_report(world, tmp_path):
    folder, reports = edgecr.judge(
        world / "base.onnx",
        [world / "good.onnx", world / "bad.onnx"],
        data=world / "data",
        devices=[str(world / "quick.yaml")],
        suites=["clean"],
        gates=["clean_accuracy.drop=0.01"],
        mean=HALF,
        std=HALF,
        output=tmp_path,
        quiet=True,
    )
    assert [(report.name, report.verdict.value) for report in reports] == [("good", "SHIP"), ("bad", "DON'T SHIP")]
    assert (folder / "question.json").is_file()


def judge(world, tmp_path, **options):
    usual = {"data": world / "data", "devices": str(world / "quick.yaml"), "suites": "clean", "mean": HALF, "std": HALF}
    return edgecr.judge(world / "base.onnx", world / "good.onnx", output=tmp_path, quiet=True, **(usual | options))


@pytest.mark.parametrize("gates", [{"clean_accuracy": {"drop": 0.01}}, "clean_accuracy.drop=0.01"])
def test_gates_may_be_those_of_a_recipe_and_one_item_needs_no_list(world, tmp_path, gates):
    _, (report,) = judge(world, tmp_path, gates=gates)
    (gate,) = report.gates
    assert (gate.name, gate.status.value, gate.limit) == ("clean_accuracy", "PASS", 0.01)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"images": 0}, "--images 0"),
        ({"images": -3}, "--images -3"),
        ({"images": 2.5}, "--images 2.5"),
        ({"images": True}, "--images True"),
        ({"threads": -3}, "--threads -3"),
        ({"suites": []}, "at least one suite"),
        ({"devices": []}, "at least one device"),
        ({"devices": None}, "devices=None: give a list"),
        ({"data": None}, "data=None: give the path"),
        ({"mean": 0.5}, r"mean=\(0.5\): give three numbers"),
        ({"std": (1, -1, 1)}, r"std=\(1, -1, 1\): give three numbers"),
        ({"size": 16}, "--size says 16x16"),
        ({"size": 8.5}, "--size 8.5: give the side"),
        ({"gates": {"clean_accuracy": 0.01}}, "--gate clean_accuracy"),
        ({"gates": [0.01]}, "write NAME.KEY=VALUE"),
    ],
)
def test_values_that_make_no_sense_are_refused(world, tmp_path, options, words):
    with pytest.raises(edgecr.EdgecrError, match=words) as refused:
        judge(world, tmp_path / "judged", **options)
    assert refused.value.exit_code == 2
    assert not (tmp_path / "judged").exists()


def test_one_number_is_the_side_of_a_square(world, tmp_path):
    _, (report,) = judge(world, tmp_path, size=8, gates="clean_accuracy.min=1")
    assert report.verdict.value == "SHIP"


def test_what_must_be_said_is_asked_for(world, tmp_path):
    with pytest.raises(edgecr.EdgecrError, match="--mean"):
        edgecr.judge(world / "base.onnx", world / "good.onnx", data=world / "data", output=tmp_path, quiet=True)
