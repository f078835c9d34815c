"""The repair of a pruning, as an option of prune and as a step of its own."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from edgecr.core.errors import RequestError, UnsupportedModel
from edgecr.core.progress import Monitor
from edgecr.core.step_record import read_shown, record_file
from edgecr.data.base import ImageSet
from edgecr.methods.base import methods
from edgecr.methods.prune.method import Prune
from edgecr.methods.repair import Repair, step
from edgecr.methods.repair.record import LayerError, RepairRecord
from edgecr.methods.train import Train
from edgecr.recipe.schema import Step
from edgecr.recipe.walk import reads_baseline
from edgecr.subject import Subject
from edgecr.surgery.repair.options import RepairOptions
from edgecr.training.context import StepContext
from tests.workplace import Memory, context, dataset, subject

RETRAIN = {"epochs": 1, "batch": 32, "precision": "fp32"}


class Ear(Monitor):
    def __init__(self) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.warned.append(text)


class Unlabelled(Memory):
    """Images whose labels are nobody's business."""

    def __init__(self, count: int, seed: int) -> None:
        super().__init__(count, seed)
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self.pixels)

    def images(self, indices: Any) -> Tensor:
        self.asked += list(indices)
        return super().images(indices)

    def __getattribute__(self, name: str) -> Any:
        if name == "labels" and hasattr(self, "pixels"):
            raise AssertionError("a repair needs no labels")
        return super().__getattribute__(name)


def room(folder: Path, train: int | ImageSet = 96, validation: ImageSet | None = None, **extra: Any) -> StepContext:
    count = train if isinstance(train, int) else 96
    found = context(folder, dataset(count), **{"monitor": Ear()} | extra)
    data = found.data
    if isinstance(train, ImageSet):
        data = dataclasses.replace(data, train=train)
    if validation is not None:
        data = dataclasses.replace(data, validation=validation)
    return dataclasses.replace(found, data=data)


def ear(place: StepContext) -> Ear:
    assert isinstance(place.monitor, Ear)
    return place.monitor


def inputs(count: int, seed: int) -> Tensor:
    """Images like those of the dataset, as a model reads them."""
    return torch.from_numpy(dataset().preprocessing.apply(Memory(count, seed).pixels.numpy()))


def distance(one: Subject, other: Subject) -> float:
    """Squared distance of the answers to new images."""
    with torch.no_grad():
        first, second = (each.module.eval()(inputs(200, 9)) for each in (one, other))
    return float((first - second).square().sum())


def trained() -> Subject:
    """A subject with norms that fit the images, so that its answers depend on them."""
    found = subject(width=0.5)
    found.module.train()
    for module in found.module.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # type: ignore[assignment]
    with torch.no_grad():
        found.module(inputs(64, 8))
    found.module.eval()
    return found


def pruned(place: StepContext, repair: Any = None, model: Subject | None = None, **keys: Any) -> Subject:
    options = {"sparsity": 0.4, "scope": "layer", "align": "off", "repair": repair} | keys
    return Prune.parse(options).apply(model or trained(), place)


def same(one: Subject, other: Subject) -> bool:
    states = one.module.state_dict(), other.module.state_dict()
    return states[0].keys() == states[1].keys() and all(map(torch.equal, states[0].values(), states[1].values()))


def record(folder: Path) -> Path:
    return record_file(folder, "repair")


def test_a_pruning_at_once_is_repaired_unless_told_otherwise(tmp_path: Path) -> None:
    plain = pruned(room(tmp_path / "plain"), False)
    assert not record(tmp_path / "plain").exists()
    usual, *others = (pruned(room(tmp_path / str(asked)), asked) for asked in (None, True, {"images": 512}))
    assert record(tmp_path / "None").is_file()
    assert not same(usual, plain)
    assert all(same(usual, other) for other in others)


def test_what_it_brought_is_told(tmp_path: Path) -> None:
    place = room(tmp_path, 300)
    pruned(place, {"images": 280})
    (told,) = (line for line in ear(place).said if line.startswith("Repaired"))
    assert "with 280 images: agreement" in told
    assert "of 20 validation images" in told
    assert not any("images only" in line for line in ear(place).warned)


def test_few_images_are_warned_of(tmp_path: Path) -> None:
    place = room(tmp_path, 96)
    pruned(place)
    (warned,) = (line for line in ear(place).warned if "images only" in line)
    assert "96 images" in warned


def test_too_few_images_are_refused_if_it_was_asked_for_and_otherwise_it_is_left_out(tmp_path: Path) -> None:
    place, model = room(tmp_path, 63), trained()
    assert same(pruned(place, None, model), pruned(room(tmp_path, 63), False, model))
    assert not record(tmp_path).exists()
    assert any("Not repaired" in line and "64" in line for line in ear(place).said)
    for repair in (True, {"images": 64}):
        with pytest.raises(RequestError, match=r"at least 64 training images, and there are 63.*leave the repair out"):
            pruned(place, repair, model)
    pruned(room(tmp_path, 64))
    assert record(tmp_path).is_file()


def test_neither_labels_nor_validation_images_have_a_part_in_it(tmp_path: Path) -> None:
    train, noise = Unlabelled(96, 1), Unlabelled(20, 5)
    one, two = pruned(room(tmp_path, train)), pruned(room(tmp_path, train, noise), {"images": 80})
    assert len(train.asked) == 96 + 80
    assert len(set(train.asked[-80:])) == 80
    assert same(one, pruned(room(tmp_path, train, Memory(30, 77))))
    assert same(two, pruned(room(tmp_path, Memory(96, 1)), {"images": 80}))
    assert not same(one, two)


def test_the_seed_chooses_images_and_positions(tmp_path: Path) -> None:
    options = {"images": 70, "positions": 2}
    results = [pruned(room(tmp_path, seed=seed), options) for seed in (1, 1, 2)]
    assert same(results[0], results[1])
    assert not same(results[0], results[2])


def test_it_says_the_same_of_a_model_that_was_stored_in_between(tmp_path: Path) -> None:
    model = trained()
    model.save(tmp_path / "model")
    stored = Subject.load(tmp_path / "model")
    assert same(pruned(room(tmp_path), model=model), pruned(room(tmp_path), model=stored))


@pytest.mark.parametrize("when", [{"kind": "iterative"}, {"kind": "exponential"}])
@pytest.mark.parametrize("repair", [True, {"images": 100}])
def test_it_is_refused_where_a_training_follows_each_removal(when: dict[str, str], repair: Any) -> None:
    with pytest.raises(ValidationError, match=f"repair does nothing with when: {when['kind']}"):
        Prune.parse({"sparsity": 0.5, "when": when, "repair": repair})
    assert Prune.parse({"sparsity": 0.5, "when": when, "repair": False}).repairs is None
    assert Prune.parse({"sparsity": 0.5, "when": when}).repairs is None


def test_options() -> None:
    assert Prune.parse({"sparsity": 0.5}).repairs == RepairOptions()
    assert Prune.parse({"sparsity": 0.5, "repair": True}).repairs == RepairOptions()
    assert Prune.parse({"sparsity": 0.5, "repair": {"ridge": 1.0}}).repairs == RepairOptions(ridge=1.0)
    for wrong in ({"images": 63}, {"positions": 0}, {"ridge": 0}, {"ridge": 11}, {"labels": True}):
        with pytest.raises(ValidationError):
            RepairOptions.parse(wrong)


def test_a_model_that_cannot_be_repaired_is_pruned_and_warned_of_unless_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: Any) -> Any:
        raise UnsupportedModel("layer9 reads nonsense.")

    monkeypatch.setattr("edgecr.surgery.repair.refit._Work._bias", refuses)
    place, model = room(tmp_path), trained()
    assert same(pruned(place, None, model), pruned(room(tmp_path), False, model))
    assert "Not repaired: layer9 reads nonsense." in ear(place).warned
    assert not record(tmp_path).exists()
    with pytest.raises(UnsupportedModel, match="layer9"):
        pruned(place, True, model)


def test_a_repaired_model_is_nearer_to_the_one_before(tmp_path: Path) -> None:
    model = trained()
    plain, mended = (distance(pruned(room(tmp_path), repair, model), model) for repair in (False, True))
    assert mended < 0.8 * plain


# The step.


def behind(tmp_path: Path, model: Subject, cut: Subject, **options: Any) -> Subject:
    place = room(tmp_path, baseline=lambda: model)
    return Repair.parse(options).apply(cut.with_module(copy.deepcopy(cut.module)), place)


def test_the_step_does_what_the_option_does(tmp_path: Path) -> None:
    model, options = trained(), {"images": 80, "positions": 4, "ridge": 0.5}
    cut = pruned(room(tmp_path / "cut"), False, model)
    result = behind(tmp_path / "step", model, cut, **options)
    assert same(result, pruned(room(tmp_path / "option"), options, model))
    assert result.surgery == cut.surgery
    both = (record(tmp_path / name).read_text() for name in ("step", "option"))
    assert len(set(both)) == 1


def test_the_step_repairs_several_removals_at_once(tmp_path: Path) -> None:
    model = trained()
    twice = pruned(room(tmp_path), False, pruned(room(tmp_path), False, model))
    assert len(twice.surgery) == 2
    assert distance(behind(tmp_path, model, twice), model) < 0.8 * distance(twice, model)


def test_the_step_does_not_mind_where_the_first_weights_came_from(tmp_path: Path) -> None:
    """A stored model leaves out the file of its first tensors, so that the two sides name different ones."""
    model = trained()
    started = dataclasses.replace(model, architecture=model.architecture.model_copy(update={"weights": tmp_path}))
    cut = pruned(room(tmp_path / "cut"), False, model)
    assert same(behind(tmp_path / "one", started, cut), behind(tmp_path / "other", model, cut))


def test_the_step_is_refused_where_there_is_nothing_to_compare(tmp_path: Path) -> None:
    model = trained()
    with pytest.raises(RequestError, match="put repair after prune"):
        behind(tmp_path, model, model)
    other = pruned(room(tmp_path), False, subject(width=0.25))
    with pytest.raises(RequestError, match="another architecture"):
        behind(tmp_path, model, other)
    further = pruned(room(tmp_path), False, model)
    with pytest.raises(RequestError, match="another architecture"):
        behind(tmp_path, pruned(room(tmp_path), False, model, sparsity=0.2), further)


def test_the_step_is_refused_for_a_model_that_was_changed_since(tmp_path: Path) -> None:
    model = trained()
    with pytest.raises(RequestError, match="trained or repaired since"):
        behind(tmp_path, model, pruned(room(tmp_path), True, model))
    cut = pruned(room(tmp_path), False, model)
    Train.parse(RETRAIN).apply(cut, room(tmp_path / "train"))
    with pytest.raises(RequestError, match=r"right behind `prune: \{repair: false\}`"):
        behind(tmp_path, model, cut)


def test_a_step_depends_on_the_baseline_and_an_option_does_not() -> None:
    assert methods.get("repair") is Repair
    assert Repair.compresses
    assert Repair.records == ("repair",)
    assert reads_baseline(Step.parse({"repair": {}}))
    assert not reads_baseline(Step.parse({"prune": {"sparsity": 0.5}}))


# The record.


def test_the_record_says_what_each_layer_gained(tmp_path: Path) -> None:
    place = room(tmp_path, 300)
    pruned(place, {"images": 260, "positions": 3, "ridge": 0.2})
    shown = read_shown(record(tmp_path))
    assert shown.title == "Repair"
    assert shown.facts["repaired with"] == "260 images, 3 positions each, ridge 0.2"
    assert shown.facts["agreement with the model before"].endswith("of 20 images")
    assert "not repaired" not in shown.facts
    assert {row.label for row in shown.rows} >= {"layer1.0.conv2", "layer3.2.conv2", "linear"}
    errors = [(float(str(row.before).rstrip("%")), float(str(row.value).rstrip("%"))) for row in shown.rows]
    assert all(0 <= after <= before for before, after in errors)
    assert any(after < before for before, after in errors)


def test_the_record_names_what_was_not_repaired_and_knows_runs_without_validation_images() -> None:
    layers = (LayerError(layer="a", before=0.5, after=0.25),)
    found = RepairRecord(images=64, positions=2, ridge=0.1, layers=layers, skipped={"up": "it is upside down"})
    assert found.told() == "Repaired 1 layers with 64 images."
    shown = found.shown("repair")
    assert shown.facts["not repaired"] == "up: it is upside down"
    assert "agreement with the model before" not in shown.facts
    (row,) = shown.rows
    assert (row.label, row.before, row.value) == ("a", "50.00%", "25.00%")
    asked = found.model_copy(update={"looked_at": 200, "agreed": 50, "agrees": 150})
    assert "rises from 25.0% to 75.0% of 200 validation images" in asked.told()


def test_without_validation_images_nothing_is_said_of_agreement(tmp_path: Path) -> None:
    place = room(tmp_path, 96, Memory(0, 1))
    pruned(place)
    assert any(line.startswith("Repaired") and "agreement" not in line for line in ear(place).said)


def test_skipped_layers_are_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgecr.surgery.repair.least_squares.LARGEST", 100)
    place = room(tmp_path)
    pruned(place)
    assert any("was not repaired: " in line and "too many to solve for" in line for line in ear(place).warned)
    assert "too many" in read_shown(record(tmp_path)).facts["not repaired"]


def test_images_are_drawn_without_repetition_in_a_stable_order(tmp_path: Path) -> None:
    train = Unlabelled(96, 1)
    pruned(room(tmp_path, train), {"images": 64})
    assert train.asked == sorted(set(train.asked))
    assert np.mean(train.asked) > 32  # not the first ones


@pytest.mark.parametrize(("macs", "judged"), [(1e8, 512), (2e9, 250), (4e9, 128)])
def test_fewer_images_judge_a_model_that_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, macs: float, judged: int
) -> None:
    class Counted:
        def __init__(self, *_: object) -> None:
            self.macs = macs

    monkeypatch.setattr(step, "count", Counted)
    assert len(step._judged(trained(), room(tmp_path, validation=Memory(600, 1)))) == judged


def test_chunks_are_normalised_when_they_are_asked_for_and_hold_a_few_large_images(tmp_path: Path) -> None:
    train, inputs = Memory(70, 1), step.inputs_of(trained(), room(tmp_path))
    chunks = step.in_chunks(inputs, train, np.arange(70))
    assert [len(part) for part in chunks] == [35, 35]
    assert all(part.dtype == torch.uint8 for part in chunks._stored)
    assert torch.equal(torch.cat(list(chunks)), inputs.normalise(train.images(np.arange(70))))
    large = dataclasses.replace(inputs, preprocessing=dataclasses.replace(inputs.preprocessing, size=(224, 224)))
    assert max(len(part) for part in step.in_chunks(large, train, np.arange(70))._stored) <= 8
