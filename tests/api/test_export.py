"""`edgecr.export`: a proven file of a module in memory, and one more target of a run."""

import json
import shutil

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import edgecr

SHAPE = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}
EXAMPLE = (torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)) - 0.4) / 0.3


def tiny():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))


def export(module, folder, **options):
    return edgecr.export(module, EXAMPLE, folder, **{"quiet": True} | SHAPE | options)


@pytest.fixture(scope="module")
def pruned():
    """A module, what pruning made of it, and the record."""
    module = tiny()
    slim, record = edgecr.prune(module, EXAMPLE, sparsity=0.5, align="off", quiet=True)
    return module, slim, record


def test_the_file_answers_like_the_module_and_says_how_to_feed_it(pruned, tmp_path):
    module, slim, record = pruned
    artifact = export(slim, tmp_path / "out", labels=["a", "b", "c", "d"], original=module, record=record)
    assert artifact.path == tmp_path / "out" / "model.onnx"
    session = onnxruntime.InferenceSession(str(artifact.path), providers=["CPUExecutionProvider"])
    inputs = torch.randn(3, 3, 8, 8)
    found = session.run(None, {artifact.input["name"]: inputs.numpy()})[0]
    assert np.allclose(found, slim.eval()(inputs).detach().numpy(), atol=1e-5)
    assert artifact.labels == ["a", "b", "c", "d"]
    assert artifact.preprocessing == {
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.3, 0.4],
        "size": [8, 8],
        "embedded": False,
    }
    assert artifact.parity["images"] == 2
    receipt = artifact.receipt
    assert receipt["baseline"]["channels"] == 8 + 4
    assert receipt["promised"]["channels"] == receipt["file"]["channels"] == 4 + 4
    artifact.verify()
    assert json.loads((tmp_path / "out" / "model.manifest.json").read_text())["sha256"] == artifact.sha256


def test_without_the_original_nothing_is_said_to_be_removed(pruned, tmp_path):
    assert export(pruned[1], tmp_path).receipt["removed"] == {"channels": 0, "weights": 0, "macs": 0}


def test_it_is_compared_on_the_images_that_are_given(pruned, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), dtype=np.uint8)
    assert export(pruned[1], tmp_path, data=(images, np.arange(9) % 4)).parity["images"] == 9


def test_a_masked_module_is_no_pruned_one(pruned, tmp_path):
    """The receipt holds the file to the record: channels that are only zero fail it."""
    module, slim, record = pruned
    with pytest.raises(edgecr.EdgecrError, match="does not lead from original to this module"):
        export(module, tmp_path, original=module, record=record)
    with pytest.raises(edgecr.EdgecrError, match="does not lead from original to this module"):
        export(slim, tmp_path, original=slim, record=record)
    masked = tiny()
    masked[0].weight.data[:2], masked[0].bias.data[:2] = 0, 0
    twice, more = edgecr.prune(masked, EXAMPLE, sparsity=0.13, align="off", quiet=True)
    assert twice[0].out_channels == 7
    with pytest.raises(edgecr.EdgecrError, match="masked, not removed"):
        export(twice, tmp_path, original=masked, record=more)
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": ["a"]}, "1 labels for 4 outputs"),
        ({"labels": ["a", "b", "c", "\ud800"]}, r"The label '\\ud800' is not UTF-8"),
        ({"target": "onx"}, "Did you mean 'onnx'"),
        ({"original": tiny()}, "needs both"),
        ({"folder": "model.onnx"}, "looks like a file; give a folder"),
        ({"example": torch.rand(1, 1, 8, 8), "module": nn.Sequential(nn.Conv2d(1, 2, 3))}, "RGB images"),
        ({"example": None}, "needs an example input"),
        ({"data": (torch.rand(4, 3, 8, 8), [0] * 4)}, "mean and std are for pixels"),
        ({"data": (np.zeros((4, 9, 9, 3), np.uint8), [0] * 4)}, "9x9"),
        ({"example": torch.full((1, 3, 8, 8), torch.nan)}, "not finite"),
        ({"std": (0.3, 0, 0.3)}, "above 0"),
        ({"mean": 123}, "three numbers"),
        ({"mean": (123.7, 116.3, 103.5), "std": (58.4, 57.1, 57.4)}, "divide them by 255: mean=\\(0.485"),
    ],
)
def test_what_cannot_be_done_is_explained(options, message, tmp_path):
    options = dict(options)
    module, example = options.pop("module", None) or tiny(), options.pop("example", EXAMPLE)
    folder = tmp_path / options.pop("folder", "out")
    with pytest.raises(edgecr.EdgecrError, match=message) as raised:
        edgecr.export(module, example, folder, quiet=True, **SHAPE | options)
    assert raised.value.exit_code == 2
    assert not folder.exists()


@pytest.mark.slow
def test_a_run_gets_one_more_target(small_run, tmp_path):
    run = edgecr.Run.find(shutil.copytree(small_run, tmp_path / small_run.name))
    baseline, candidate = edgecr.export(run, target="onnx-embedded", quiet=True)
    assert [each.lineage["role"] for each in (baseline, candidate)] == ["baseline", "candidate"]
    assert candidate.path.is_relative_to(run.folder / "export" / "onnx-embedded")
    assert candidate.input["dtype"] == "uint8"
    candidate.path.with_name("model.manifest.json").unlink()  # the run's own record still knows the files
    assert edgecr.export(run, target="onnx-embedded", quiet=True)[1] == candidate
