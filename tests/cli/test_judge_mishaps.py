"""`edgecr judge` when something odd is given, damaged, or happening at the same time: a message, not a raw error."""

import json
import os

import pytest

from edgecr.core.files import locked
from tests.cli.colour_files import colour_file, images
from tests.cli.test_judge import GATES, case, invoke, judge, judged, measured_at_once, result_of, world

__all__ = ["case", "judged", "measured_at_once", "world"]  # fixtures


@pytest.mark.parametrize(
    "change", [{"gates": {"clean_acuracy": {"drop": 0.01}}}, {"suites": ["nosie5"]}, {"gates": {"macs": {"drop": 0.1}}}]
)
def test_a_question_of_another_version_is_told_to_the_build_server(case, tmp_path, change):
    assert invoke("check", case, "--junit", tmp_path / "j")[0] == 0
    file = case / "question.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    code, output = invoke("check", case, "--junit", tmp_path / "j")
    assert code == 2
    assert "damaged, or of another version" in output
    assert "damaged, or of another version" in (tmp_path / "j").read_text()
    assert "SHIP" not in (tmp_path / "j").read_text()


def test_two_at_once_are_told_what_fits_a_judgement(judged, world):
    with locked(judged / ".lock"):
        code, output = judge(world, "base.onnx", "good.onnx", gate=GATES)
    assert code == 1
    assert "--output" in output
    assert "recipe" not in output


def test_the_report_says_what_was_compared_and_counts_nothing(judged):
    page, text = (judged / "report.html").read_text(), (judged / "report.md").read_text()
    assert "<h1>good.onnx against base.onnx</h1>" in page
    assert text.startswith("# good.onnx against base.onnx: SHIP")
    assert "not counted in files from elsewhere" in text
    assert "INCOMPLETE" not in text.partition("## Models")[2].partition("## ")[0]


def test_names_of_classes_may_come_from_an_editor_that_marks_utf8(world, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("\ufeffblue\ngreen\nred\n", encoding="utf-8")
    code, output = judge(world, "base.onnx", "good.onnx", output=tmp_path, classes=names, gate="clean_accuracy.min=1")
    assert code == 0, output


def test_a_side_that_the_file_fixes_is_held_against_the_option(world, tmp_path):
    base, other = (colour_file(tmp_path / f"{scale}.onnx", shape=(3, 8, "w"), scale=scale) for scale in (1, 2))
    code, output = judge(world, base, other, output=tmp_path, size="16")
    assert code == 2
    assert f"{base} takes 8xany" in output
    code, output = judge(world, base, other, output=tmp_path)
    assert (code, "height or width open" in output) == (2, True)
    assert judge(world, base, other, output=tmp_path, size="8x16", gate="clean_accuracy.min=1")[0] == 0


@pytest.mark.parametrize("place", ["base", "other"])
def test_a_pipe_is_not_waited_for(world, tmp_path, place):
    os.mkfifo(tmp_path / "pipe.onnx")
    files = {"base": "base.onnx", "other": "good.onnx"} | {place: tmp_path / "pipe.onnx"}
    code, output = judge(world, *files.values(), output=tmp_path / "judged")
    assert code == 2
    assert "pipe.onnx is not a file" in output


def test_a_class_that_cannot_be_named_is_refused_before_the_work(world, tmp_path):
    images(tmp_path / "data", splits=("test",))
    (tmp_path / "data/test/red").rename(tmp_path / "data/test/r\udce9d")
    code, output = judge(world, "base.onnx", "good.onnx", data=tmp_path / "data", output=tmp_path / "judged")
    assert code == 2
    assert "not UTF-8" in output
    assert not (tmp_path / "judged").exists()


def test_an_untrained_baseline_lets_nothing_ship(world, tmp_path):
    """Every answer is the same class: the baseline knows nothing, and the candidate loses nothing."""
    base, other = (colour_file(tmp_path / f"{scale}.onnx", scale=scale, order=[[0, 0, 1]] * 3) for scale in (1, 2))
    code, output = judge(world, base, other, output=tmp_path, gate="clean_accuracy.drop=0.01")
    assert code == 1
    (folder,) = tmp_path.glob("2-*")
    assert result_of(folder)["verdict"] == "INCOMPLETE"
    assert "not shown to be above chance" in output
