"""`edgecr robustness` for files, and on a device: what is shown, and what is refused before any work."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from edgecr.cli import app
from edgecr.core.errors import EdgecrError
from edgecr.exporters import manifest_path
from tests.exporters.tiny_subjects import LABELS, ThreeLayers, export, subject_of
from tests.runners.loopback import loopback
from tests.workplace import trusted, without_notes

DEVICE = "name: mine\npurpose: tests\nkind: cpu\ntransport: TRANSPORT\nruntimes: RUNTIMES\n"


def said(*arguments):
    """The exit code and the output of a command, or its explained error."""
    done = CliRunner().invoke(app, ["robustness", *map(str, arguments), "-q"])
    error = done.exception
    if isinstance(error, EdgecrError):
        return error.exit_code, str(error)
    if error is not None and not isinstance(error, SystemExit):
        raise error
    return done.exit_code, " ".join(done.output.split())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An exported file that lies in no run, and a folder of images of its classes."""
    folder = tmp_path_factory.mktemp("made")
    random = np.random.default_rng(0)
    for label in LABELS:
        (folder / "images" / label).mkdir(parents=True)
        for number in range(10):
            pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / label / f"{number}.png")
    return export(subject_of(ThreeLayers()), folder / "file").path, folder / "images"


def device(folder, transport="{kind: local}", runtimes="{ort: {threads: 1}}"):
    path = folder / "mine.yaml"
    path.write_text(DEVICE.replace("TRANSPORT", transport).replace("RUNTIMES", runtimes))
    return trusted(path)


def test_one_file_and_two_are_shown_the_images_of_a_folder(made, tmp_path):
    file, images = made
    code, output = said(file, "--data", images, "--device", device(tmp_path))
    assert code == 0, output
    assert "10 test images" in output
    code, both = said(file, file, "--data", images, "--images", 5)
    assert code == 0, both
    assert "5 test images" in both
    assert "+0.0" in both or "0.0 " in both, "the same file twice differs in nothing"


@pytest.mark.parametrize(
    ("transport", "runtimes", "message"),
    [
        ("{kind: local}", "{ort: {providers: [CUDAExecutionProvider]}}", "but CUDAExecutionProvider was asked for"),
        ("{kind: local}", "{openvino: {device: MOON}}", "OpenVINO finds no 'MOON' on this machine, only CPU"),
        ("{kind: local}", "{}", "declares no runtime 'ort' or 'openvino'"),
    ],
)
def test_a_device_that_this_machine_cannot_stand_for_is_refused(made, tmp_path, transport, runtimes, message):
    code, output = said(made[0], "--data", made[1], "--device", device(tmp_path, transport, runtimes))
    assert (code, message in output) == (2, True), output


def test_a_board_answers_as_this_machine_does(made, tmp_path):
    file, images = made
    with loopback(tmp_path) as board:
        there = device(tmp_path, json.dumps(board.transport()))
        code, output = said(file, file, "--data", images, "--device", there)
    assert code == 0, output
    assert table_in(output) == table_in(said(file, file, "--data", images)[1])


def table_in(output):
    """The table of a command's output, without what it said before."""
    return output[output.index("Accuracy, suite") :]


def test_a_board_that_nobody_reaches_is_a_failure(made, tmp_path):
    there = device(tmp_path, "{kind: ssh, host: no-such-board.invalid}")
    code, output = said(made[0], "--data", made[1], "--device", there)
    assert (code, "Board 'no-such-board.invalid' cannot be reached" in output) == (1, True), output


def test_a_foreign_device_is_not_trusted(made, tmp_path):
    path = tmp_path / "foreign.yaml"
    path.write_text(DEVICE.replace("TRANSPORT", "{kind: local}").replace("RUNTIMES", "{ort: {}}"))
    code, output = said(made[0], "--data", made[1], "--device", path)
    assert (code, "which you have not trusted" in output) == (2, True), output


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((), "does not lie in a run, so nothing says which images to show it. Add --data DIR"),
        (("--data", "nowhere"), "Unknown dataset or folder 'nowhere'"),
        (("--data", "digits"), "tells 5 classes apart (a, b, c, d, e…), the images are of 10"),
    ],
)
def test_images_must_be_named_and_be_of_its_classes(made, data, message):
    code, output = said(made[0], *data)
    assert (code, message in output) == (2, True), output


def test_a_file_without_a_manifest_says_what_is_missing(made, tmp_path):
    bare = without_notes(made[0], tmp_path / "model.onnx")
    assert not manifest_path(tmp_path / "model.onnx").exists()
    code, output = said(bare, "--data", made[1])
    assert (code, "has no recorded preprocessing" in output) == (2, True), output


def test_three_files_are_refused(made):
    assert said(made[0], made[0], made[0], "--data", made[1])[0] == 2


def test_a_run_is_shown_its_own_images_only(tmp_path):
    code, output = said(tmp_path, "--data", "digits")
    assert (code, "a run is shown its own test images" in output) == (2, True), output
