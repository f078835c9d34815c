"""``edgecr shrink``: a trained model and images without labels in, a judged file out."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from edgecr.api import shrinking
from edgecr.api.runs import compress
from edgecr.api.shrinking import shrink
from edgecr.core.errors import EdgecrError
from edgecr.models import architecture, build
from edgecr.recipe import load_recipe
from edgecr.weights import write_tensors
from tests.conftest import QUICK_DEVICE
from tests.surgery.conftest import disturbed
from tests.workplace import trusted, undecided


@pytest.fixture
def world(tmp_path):
    """A model's weights, 320 photographs without labels, and a device that is measured quickly."""
    torch.manual_seed(0)
    declared = {"arch": "resnet20", "width": 0.5}
    random, folder = np.random.default_rng(0), tmp_path / "photos"
    folder.mkdir()
    coarse = random.integers(0, 256, (320, 4, 4, 3), dtype=np.uint8)
    photos = [Image.fromarray(pixels).resize((16, 16)) for pixels in coarse]
    for number, photo in enumerate(photos):
        photo.save(folder / f"{number:03}.png")
    module = undecided(disturbed(build(architecture(declared), 4)), np.stack(photos))
    write_tensors(tmp_path / "weights.safetensors", module.state_dict())
    (tmp_path / "quick.yaml").write_text(QUICK_DEVICE)
    trusted(tmp_path / "quick.yaml")
    return tmp_path


def asked(monkeypatch, *arguments, **options):
    """The recipe that shrink would run."""
    told = {}

    def noted(recipe, overrides, **others):
        told.update(recipe=recipe, changes=overrides)
        return None, None

    monkeypatch.setattr(shrinking, "compress", noted)
    shrinking.shrink(*arguments, **options)
    return told["recipe"], told["changes"]


def test_a_model_and_images_without_labels_end_in_a_file_judged_by_agreement(world, monkeypatch):
    """Planned for multiply-accumulates: a latency table takes minutes, and has tests of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(world / "cache"))
    recipe, changes = asked(
        monkeypatch,
        {"arch": "resnet20", "width": 0.5},
        world / "photos",
        weights=world / "weights.safetensors",
        classes=4,
        size=16,
        agreement=0.0,
    )
    changes = [*changes, "steps.0.prune.budget={macs: 0.6}", "gates={agreement: {min: 0.5}}"]
    devices = [str(world / "quick.yaml")]
    run, report = compress(recipe, overrides=changes, devices=devices, runs=world / "runs", threads=1, quiet=True)
    assert {gate.name: gate.status.value for gate in report.gates} == {"agreement": "PASS"}
    assert report.verdict.value == "SHIP"
    step = json.loads((run.folder / "steps/00-prune/records/repair.json").read_text())["values"]
    assert step["agrees"] >= step["agreed"]
    assert step["looked_at"] > 0
    assert list((world / "cache/edgecr/values").glob("*.json"))
    assert "accuracy" not in (run.folder / "report.md").read_text().lower().replace("-accuracy", "")


@pytest.mark.parametrize(
    ("latency", "gate"), [(0.5, {"ratio": 0.55}), ("3 ms", {"max": pytest.approx(3.3)}), (1.0, None)]
)
def test_the_latency_is_a_budget_and_a_gate(world, monkeypatch, latency, gate):
    keys = {"weights": world / "weights.safetensors", "classes": 4, "latency": latency}
    if gate is None:
        with pytest.raises(EdgecrError, match="latency"):
            asked(monkeypatch, "resnet20", world / "photos", **keys)
        return
    recipe = load_recipe(*asked(monkeypatch, "resnet20", world / "photos", **keys))
    assert recipe.steps[0].method.budget.latency == latency
    assert recipe.gates["latency_p50"].limits == gate
    assert (recipe.data.size, recipe.model.classes) == (32, 4)


def test_images_are_scaled_as_the_options_say(world, monkeypatch):
    keys = {"weights": world / "weights.safetensors", "classes": 4}
    usual = load_recipe(*asked(monkeypatch, "resnet20", world / "photos", **keys))
    assert (usual.data.mean, usual.data.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    scaled = load_recipe(
        *asked(monkeypatch, "resnet20", world / "photos", mean="0.5,0.4,0.3", std=(0.5, 0.25, 1), **keys)
    )
    assert (scaled.data.mean, scaled.data.std) == ((0.5, 0.4, 0.3), (0.5, 0.25, 1.0))


def test_a_folder_may_have_any_name(world, monkeypatch):
    (world / "photos").rename(world / "My photos (2026)")
    recipe = load_recipe(*asked(monkeypatch, "torchvision:resnet18", world / "My photos (2026)"))
    assert recipe.name == "shrink-My-photos--2026-"
    assert recipe.data.root.is_dir()


def test_a_model_of_a_library_has_its_published_weights(world, monkeypatch):
    recipe = load_recipe(*asked(monkeypatch, "torchvision:resnet18", world / "photos"))
    assert (recipe.model.pretrained, recipe.model.classes, recipe.data.size) == (True, 1000, 224)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latency": 1.5}, "latency"),
        ({"latency": "3 hours"}, "latency"),
        ({"latency": "0ms"}, "less than any model takes: give a fraction .* '3 ms'"),
        ({"latency": 1e-300}, "less than any model takes"),
        ({"size": 16}, "the number of classes: give --classes"),
        ({"weights": "nowhere.safetensors", "classes": 4, "size": 16}, r"nowhere.safetensors"),
        ({"classes": 4, "size": 16}, "weights"),
        ({"mean": "124,117,104"}, r"--mean 124,117,104: .* divide them by 255: --mean 0.486"),
        ({"std": "0.5,0.5"}, "--std 0.5,0.5: give three numbers"),
        ({"std": "0.5,0.5,0"}, "--std 0.5,0.5,0: give three numbers .* above 0"),
    ],
)
def test_a_wrong_request_is_refused_with_one_sentence(world, options, message):
    values = {"weights": world / "weights.safetensors", "quiet": True, "runs": world / "runs"} | options
    if options.keys() == {"classes", "size"}:
        values.pop("weights")
    with pytest.raises(EdgecrError, match=message) as raised:
        shrink("resnet20", world / "photos", devices=[str(world / "quick.yaml")], **values)
    assert raised.value.exit_code == 2


def test_what_is_no_folder_or_too_little_is_refused_before_the_model_is_asked_for(world, tmp_path):
    keys = {"weights": world / "nowhere.safetensors", "quiet": True, "runs": tmp_path / "runs"}
    few = tmp_path / "few"
    few.mkdir()
    for photo in sorted((world / "photos").iterdir())[:181]:
        (few / photo.name).symlink_to(photo)
    for images, message in (
        (world / "photos/000.png", r"is a file, not a folder: .*--images"),
        (world / "none", r"does not exist \(--images\)"),
        (few, "There are 181 images, and about 182 are needed"),
    ):
        with pytest.raises(EdgecrError, match=message):
            shrink("resnet20", images, **keys)
    assert not (tmp_path / "runs").exists()


def test_a_model_that_is_code_names_the_option(world):
    with pytest.raises(EdgecrError, match=r"os:getcwd .* --allow-code"):
        shrink("os:getcwd", world / "photos")


def test_the_recipe_judges_with_the_same_slack():
    recipe = load_recipe("quick/shrink")
    asked_for = recipe.steps[0].method.budget.latency
    assert recipe.gates["latency_p50"].limits == {"ratio": pytest.approx(asked_for * shrinking.SLACK)}
