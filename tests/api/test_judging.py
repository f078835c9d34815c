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


def test_what_must_be_said_is_asked_for(world, tmp_path):
    with pytest.raises(edgecr.EdgecrError, match="--mean"):
        edgecr.judge(world / "base.onnx", world / "good.onnx", data=world / "data", output=tmp_path, quiet=True)
