"""`edgecr.shrink` of what lies in memory: a module of a notebook, and images as arrays."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import edgecr
from edgecr.api import shrinking
from edgecr.core.errors import BudgetError, RequestError
from edgecr.core.kept import Kept
from edgecr.models import given
from edgecr.recipe import load_recipe
from edgecr.run import Run
from tests.surgery.conftest import disturbed
from tests.workplace import planned_by_macs

SCALE = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.25, 0.5)}


class Net(nn.Module):
    """As from a notebook cell."""

    def __init__(self, slope=0.0):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.second, self.head = nn.Conv2d(16, 16, 3, stride=2, padding=1), nn.Linear(16, 4)
        self.slope = slope

    def forward(self, images):
        seen = nn.functional.leaky_relu(self.norm(self.first(images)), self.slope)
        return self.head(torch.relu(self.second(seen)).mean((2, 3)))


def net(slope=0.0):
    torch.manual_seed(0)
    return disturbed(Net(slope))


def pixels(count=320, side=12):
    coarse = np.random.default_rng(0).integers(0, 256, (count, 3, 3, 3), dtype=np.uint8)
    return coarse.repeat(side // 3, axis=1).repeat(side // 3, axis=2)


def asked(monkeypatch, *arguments, **options):
    """The overrides of the recipe that would run."""
    told = {}
    monkeypatch.setattr(
        shrinking, "compress", lambda recipe, overrides, **others: told.update(changes=overrides) or (None, None)
    )
    shrinking.shrink(*arguments, **(SCALE | options))
    monkeypatch.undo()
    return told["changes"]


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """The result for a module and images, planned for multiply-accumulates."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    planned_by_macs(monkeypatch, tmp_path)
    return lambda module, images: edgecr.shrink(module, images, runs=tmp_path / "runs", quiet=True, **SCALE)


def test_a_module_and_pixels_end_in_a_judged_file_and_a_module(finished, monkeypatch):
    module, images = net(), pixels()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    small = finished(module, images)
    assert (small.verdict, small.report.verdict.value) == ("SHIP", "SHIP")
    assert str(small) == f"SHIP; report: {small.page}"
    assert small.page.is_file()
    assert not small.module.training
    assert sum(p.numel() for p in small.module.parameters()) < sum(p.numel() for p in module.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert edgecr.check(small.run) == small.report

    manifest = json.loads((small.file.parent / "model.manifest.json").read_text())
    assert manifest["preprocessing"]["std"] == list(SCALE["std"])

    assert finished(net(), images).run == small.run  # the same content resumes

    monkeypatch.setattr(given, "_modules", Kept("The weights and the code of"))
    with pytest.raises(RequestError, match=r"Net@\w+ came from the memory of another Python process"):
        _ = small.module
    assert edgecr.check(Run(small.run.folder)) == small.report


def test_a_module_is_known_by_all_that_it_computes(monkeypatch):
    def arch(module):
        return next(text for text in asked(monkeypatch, module, pixels(182)) if text.startswith("model="))

    changed = net()
    changed.head.bias.data[0] += 1e-3
    assert arch(net()) == arch(net().train()) != arch(changed)
    assert arch(net()) != arch(net(slope=0.1))


@pytest.mark.parametrize("labelled", [False, True])
def test_images_in_memory_are_divided_and_scaled(monkeypatch, labelled):
    images = pixels(190)
    given_images = (images, torch.arange(190) % 4) if labelled else torch.from_numpy(images)
    recipe = load_recipe("quick/shrink", asked(monkeypatch, net(), given_images))
    data = recipe.data.load()
    assert data.labelled is labelled
    assert data.classes == (("0", "1", "2", "3") if labelled else ())
    assert (data.preprocessing.std, data.preprocessing.size) == (SCALE["std"], (12, 12))
    parts = [part.numpy(range(len(part))) for part in (data.train, data.validation, data.test)]
    assert sorted(map(bytes, np.concatenate(parts))) == sorted(map(bytes, images))
    assert len(data.test) == 38


def test_labels_beyond_the_classes_of_the_module_are_refused():
    images = pixels(190)
    with pytest.raises(RequestError, match="classes is 4, but the data has 7"):
        edgecr.shrink(net(), (images, np.arange(190) % 7), quiet=True, **SCALE)


def test_a_folder_needs_the_size_and_a_name_knows_its_own(monkeypatch, tmp_path):
    for number in range(182):
        (tmp_path / f"{number}.png").touch()
    recipe = load_recipe("quick/shrink", asked(monkeypatch, net(), tmp_path, size=(12, 16)))
    assert (recipe.data.size, recipe.data.mean, recipe.data.std) == ((12, 16), *SCALE.values())
    assert (recipe.model.classes, recipe.model.starts_trained) == (4, True)


def test_a_latency_out_of_reach_says_what_to_change(monkeypatch):
    def refuse(*arguments, **options):
        raise BudgetError("latency: 0.02 ms may remain, 0.04 ms is the least. Ask for less removal.")

    monkeypatch.setattr(shrinking, "compress", refuse)
    with pytest.raises(BudgetError, match=r"0.04 ms is the least.* a larger latency than 0.02\.") as raised:
        edgecr.shrink(net(), pixels(182), latency=0.02, **SCALE)
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("asked_for", "limit"), [(0.5, {"ratio": 0.55}), (0.95, {"ratio": 1.0}), ("3 ms", {"max": 3.3})]
)
def test_a_file_that_ships_is_within_a_tenth_of_the_latency_and_never_slower_than_the_model(asked_for, limit):
    assert shrinking._limit(asked_for) == limit


def test_a_section_without_a_size_gets_that_of_the_request(monkeypatch):
    data = {"name": "folder", "root": "photos"} | SCALE
    recipe = load_recipe("quick/shrink", asked(monkeypatch, net(), data, size=12))
    assert recipe.data.size == 12


class Features(nn.Module):
    def forward(self, images):
        return images * 2


WRONG = {
    "no scale": ((net(), pixels(182)), {"mean": None}, r"mean=\(…\)"),
    "a section without a scale": ((net(), {"name": "folder", "root": "x", "size": 12}), {"mean": None}, r"mean=\(…\)"),
    "two sizes": ((net(), {"name": "folder", "root": "x", "size": 12}), {"size": 16}, "of the size 12, not 16"),
    "no size": ((net(), "photos"), {}, "Give the size"),
    "another size": ((net(), pixels(182)), {"size": 16}, r"size \(12, 12\), not 16"),
    "floats": ((net(), torch.rand(9, 3, 12, 12)), {}, "Images in memory are pixels here"),
    "weights": ((net(), pixels(182)), {"weights": "x.pth"}, "has its weights already"),
    "other classes": ((net(), pixels(182)), {"classes": 5}, "4 classes, not 5"),
    "no classifier": ((Features(), pixels(182)), {}, "no classifier"),
    "no module": ((3, pixels(182)), {}, "A torch.nn.Module is needed"),
    "bytes": ((net(), pixels(182)), {"mean": (124, 117, 104)}, r"divide them by 255: mean=\(0.486"),
    "two channels": ((net(), pixels(182)), {"std": (0.5, 0.5)}, r"std=\(0.5, 0.5\): give three numbers"),
    "a wrong latency": ((net(), pixels(182)), {"latency": "fast"}, "give a fraction between 0 and 1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_done_is_explained(case):
    arguments, options, message = WRONG[case]
    with pytest.raises(edgecr.EdgecrError, match=message) as raised:
        edgecr.shrink(*arguments, **(SCALE | options), quiet=True)
    assert raised.value.exit_code == 2
