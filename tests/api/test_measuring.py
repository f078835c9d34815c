"""`edgecr.profile` and `edgecr.robustness`: of exported files and of runs."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import edgecr
from edgecr.api.measuring import raise_failure
from edgecr.predictors import predictor_for
from tests.conftest import QUICK_DEVICE
from tests.workplace import trusted, without_notes

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)
LABELS = np.arange(30) % 4
SHAPE = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two exported models with manifests."""
    folder, found = tmp_path_factory.mktemp("files"), []
    for number in range(2):
        torch.manual_seed(number)
        module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 4))
        labels = ["a", "b", "c", "d"]
        found.append(
            edgecr.export(module, torch.rand(1, 3, 8, 8), folder / str(number), labels=labels, quiet=True, **SHAPE)
        )
    return found


@pytest.fixture
def device(tmp_path):
    (tmp_path / "quick.yaml").write_text(QUICK_DEVICE)
    return str(trusted(tmp_path / "quick.yaml"))


@pytest.fixture
def run(small_run, tmp_path):
    return edgecr.Run.find(shutil.copytree(small_run, tmp_path / small_run.name))


def chosen_by(artifact, pixels):
    answers = predictor_for(artifact).predict(pixels)
    logits = answers if isinstance(answers, np.ndarray) else next(iter(answers.values()))
    return logits.argmax(1)


def test_clean_accuracy_is_the_share_of_right_answers(files):
    answers = edgecr.robustness(files[0].path, data=(PIXELS, LABELS), suite="clean", quiet=True)
    right = (chosen_by(files[0], PIXELS) == LABELS).mean()
    assert answers.roles == ("candidate",)
    assert answers.accuracy("candidate", "clean").value == pytest.approx(right)


def test_two_files_are_shown_the_same_pixels(files):
    paths = [each.path for each in files]
    answers = edgecr.robustness(paths, data=(PIXELS, LABELS), images=12, seed=4, quiet=True)
    before, after = ((chosen_by(each, PIXELS) == LABELS)[answers.indices].mean() for each in files)
    assert len(answers.labels) == 12
    assert answers.delta("clean").value == pytest.approx(after - before)
    assert set(answers.corruptions) == {"gauss", "iso", "rgb_shift", "pixel_dropout", "fog"}


def test_a_file_from_elsewhere_needs_to_be_told_its_preprocessing(files, tmp_path):
    bare = without_notes(files[0].path, tmp_path / "bare.onnx")
    asked = {"data": (PIXELS, LABELS), "suite": "clean", "quiet": True}
    with pytest.raises(edgecr.EdgecrError, match="has no recorded preprocessing"):
        edgecr.robustness(bare, **asked)
    told = edgecr.robustness(bare, **asked, **SHAPE)
    assert told.accuracy("candidate", "clean") == edgecr.robustness(files[0].path, **asked).accuracy(
        "candidate", "clean"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "A file brings no images"),
        ({"data": (PIXELS, LABELS), "suite": "noise6"}, "Did you mean 'noise5'"),
        ({"data": (torch.rand(4, 3, 8, 8), [0] * 4)}, "Corruptions work on pixels"),
        ({"data": (PIXELS, LABELS + 1)}, "has 4 outputs, but a label is 4"),
        ({"data": {"name": "digits"}}, "tells 4 classes apart \\(a, b, c, d"),
        ({"data": (PIXELS[:, :6], LABELS)}, "8x8.*6x8"),
    ],
)
def test_what_cannot_be_shown_is_explained(files, options, message):
    with pytest.raises(edgecr.EdgecrError, match=message):
        edgecr.robustness(files[0].path, quiet=True, **options)


def test_three_files_are_too_many(files):
    with pytest.raises(edgecr.EdgecrError, match="Give one exported file, or two"):
        edgecr.profile([files[0].path] * 3, quiet=True)


def test_a_file_is_measured(files, device):
    measured = edgecr.profile(files[0].path, device=device, batch=[1, 2], quiet=True)
    assert [row.batch for row in measured.rows] == [1, 2]
    assert all(set(row.arms) == {"candidate"} for row in measured.rows)
    assert len(measured.measurement.launches) == 2


def test_two_files_are_measured_as_a_pair(files, device):
    (row,) = edgecr.profile([each.path for each in files], device=device, rounds=4, quiet=True).rows
    assert set(row.arms) == {"baseline", "candidate"}
    assert row.batch == 1
    assert row.ratios


def test_a_device_that_fails_is_an_error():
    broken = SimpleNamespace(device=SimpleNamespace(name="board"), error="it went away")
    with pytest.raises(edgecr.EdgecrError, match="board: it went away") as raised:
        raise_failure(broken)
    assert raised.value.exit_code == 1


@pytest.mark.slow
def test_a_run_is_measured_and_asked_under_its_own_options(run, small_run):
    device = str(small_run.parent.parent / "quick.yaml")
    measured = edgecr.profile(run, device=device, quiet=True)
    assert [row.batch for row in measured.rows] == [1, 2]
    answers = edgecr.robustness(run, quiet=True)
    assert answers.roles == ("baseline", "candidate")
    assert len(answers.labels) == 2
    assert not (run.folder / "extra").exists()  # both were there, and nothing was made anew
    with pytest.raises(edgecr.EdgecrError, match="brings its own test images"):
        edgecr.robustness(run, data=(PIXELS, LABELS))
