"""``edgecr shrink``: a trained model and images without labels in, a judged file out."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from edgecr.api.shrinking import shrink
from edgecr.core.errors import EdgecrError
from edgecr.models import architecture, build
from edgecr.weights import write_tensors
from tests.conftest import QUICK_DEVICE
from tests.surgery.conftest import disturbed
from tests.workplace import trusted


@pytest.fixture
def world(tmp_path):
    """A model's weights, 320 photographs without labels, and a device that is measured quickly."""
    torch.manual_seed(0)
    declared = {"arch": "resnet20", "width": 0.5}
    write_tensors(tmp_path / "weights.safetensors", disturbed(build(architecture(declared), 4)).state_dict())
    random, folder = np.random.default_rng(0), tmp_path / "photos"
    folder.mkdir()
    for number in range(320):
        pixels = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((16, 16)).save(folder / f"{number:03}.png")
    (tmp_path / "quick.yaml").write_text(QUICK_DEVICE)
    trusted(tmp_path / "quick.yaml")
    return tmp_path


@pytest.mark.slow
def test_a_model_and_images_without_labels_end_in_a_file_judged_by_agreement(world, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(world / "cache"))
    monkeypatch.chdir(world)
    run, report = shrink(
        {"arch": "resnet20", "width": 0.5},
        world / "photos",
        weights=world / "weights.safetensors",
        latency=0.9,
        classes=4,
        size=16,
        agreement=0.0,
        devices=[str(world / "quick.yaml")],
        threads=1,
        quiet=True,
    )
    gates = {gate.name: gate for gate in report.gates}
    assert gates["agreement"].status.value == "PASS"
    assert "clean_accuracy" not in gates
    step = json.loads((run.folder / "steps/00-prune/records/repair.json").read_text())
    assert step["values"]["agrees"] >= step["values"]["agreed"]
    assert list((world / "cache/edgecr/values").glob("*.json"))
    assert (run.folder / "report.html").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latency": 1.5}, "latency"),
        ({"latency": "3 hours"}, "latency"),
        ({"weights": "nowhere.safetensors", "classes": 4, "size": 16}, r"nowhere.safetensors"),
        ({"classes": 4, "size": 16}, "weights"),
    ],
)
def test_a_wrong_request_is_refused_with_one_sentence(world, options, message):
    values = {"weights": world / "weights.safetensors", "quiet": True, "runs": world / "runs"} | options
    if options.keys() == {"classes", "size"}:
        values.pop("weights")
    with pytest.raises(EdgecrError, match=message):
        shrink("resnet20", world / "photos", devices=[str(world / "quick.yaml")], **values)
