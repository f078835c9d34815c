"""A whole run on images that nobody labelled, from weights to a verdict by agreement."""

import json

import numpy as np
import pytest
from PIL import Image

import edgecr
from edgecr.core.errors import RequestError
from edgecr.data.views import HeldOutData
from edgecr.models import families
from edgecr.robustness.result import RobustnessResult
from edgecr.stages.asked import Asked
from edgecr.stages.judge import judged
from edgecr.subject import Subject
from edgecr.weights import write_tensors
from tests.workplace import undecided

RECIPE = """\
name: plain
model: {arch: resnet20, width: 0.5, blocks: [1, 1, 1], classes: 5, weights: trained.safetensors}
data: {name: folder, root: photos, size: 16, augmentation: none}
steps:
  - prune: {sparsity: 0.1, align: off}
  - finetune: {epochs: 1, batch: 32, loss: {kd: {alpha: 1.0}}}
measure: {devices: []}
robustness: {suites: [clean]}
gates:
  agreement: {min: 0.55}
  macs: {ratio: 1.0}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Photographs without class folders, a model's weights, and the recipe."""
    folder = tmp_path_factory.mktemp("plain")
    (folder / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (120, 4, 4, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).resize((16, 16)).save(folder / f"photos/{number:03}.png")
    model = families.get("resnet20").parse({"arch": "resnet20", "width": 0.5, "blocks": [1, 1, 1]})
    module = undecided(Subject.create(model, 5, (16, 16), 0).module.eval(), pixels.repeat(4, 1).repeat(4, 2))
    write_tensors(folder / "trained.safetensors", module.state_dict())
    (folder / "plain.yaml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="module")
def run(world):
    from tests.conftest import InProcess

    done = InProcess(world)("compress", "plain.yaml", "--quiet")
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = (world / "runs").glob("plain-*")
    return found, done.stdout


@pytest.mark.slow
def test_the_verdict_rests_on_agreement(run):
    folder, output = run
    assert "SHIP" in output
    result = judged(edgecr.Run(folder))
    assert {gate.name: gate.status.value for gate in result.gates} == {"agreement": "PASS", "macs": "PASS"}
    (row,) = result.accuracy
    assert (row.agreement.samples, row.baseline, row.candidate, row.delta) == (24, None, None, None)
    answered = RobustnessResult.load(folder / "robustness/clean@onnx")
    assert not answered.labelled
    assert row.agreement == answered.agreement("clean")


@pytest.mark.slow
def test_accuracy_is_written_nowhere(run):
    folder, output = run
    for text in (output, *((folder / f"report.{kind}").read_text() for kind in ("md", "html"))):
        assert "ccuracy" not in text.replace("prefer: accuracy", "")
        assert "alidation" not in text
    (epoch,) = json.loads(next(folder.glob("steps/*finetune/history.json")).read_text())["epochs"]
    assert (epoch["accuracy"], epoch["validation"]) == (None, None)


@pytest.mark.slow
def test_the_runs_commands_know_that_there_are_no_labels(run, world):
    from tests.conftest import InProcess

    folder, _ = run
    assert not Asked.of(edgecr.Run(folder)).labelled
    done = InProcess(world)("robustness", folder, "--suite", "clean", "--images", "10", "-q")
    assert done.returncode == 0, done.stderr
    assert "Agreement, suite clean" in done.stdout
    again = InProcess(world)("compress", "plain.yaml")
    assert "Already finished" in again.stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("model.classes=null", "give model.classes"),
        ("steps=[{train: {epochs: 1}}]", "train needs labels"),
        ("gates.clean_accuracy.drop=0.01", "the data has no labels: use agreement"),
    ],
)
def test_what_needs_labels_is_refused_before_any_work(world, change, words):
    from tests.conftest import InProcess

    done = InProcess(world)("compress", "plain.yaml", "--set", change)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Reading data" not in done.stderr


def test_functions_refuse_what_needs_labels_too(world):
    import torch
    from torch import nn

    from edgecr.api.images import held_out
    from edgecr.core.progress import Monitor
    from edgecr.data.base import Preprocessing

    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    means = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "quiet": True}
    with pytest.raises(RequestError, match="prune needs labels"):
        edgecr.prune(net, torch.zeros(1, 3, 16, 16), sparsity=0.5, score="taylor", data=world / "photos", **means)
    with pytest.raises(RequestError, match="distill needs labels"):
        edgecr.distill(net, net, world / "photos", size=(16, 16), epochs=1, **means)
    shown = held_out(world / "photos", Preprocessing((0.5,) * 3, (0.5,) * 3, (16, 16)), Monitor())
    assert isinstance(shown, HeldOutData)
    assert not shown.labelled
    assert len(shown.test) == 120
