import pytest
import yaml

from edgecr.methods.base import methods
from edgecr.methods.finetune import FineTune
from edgecr.methods.train import Train
from edgecr.recipe.load import load_recipe
from tests.workplace import context, subject

KEYS = {"epochs": 1, "batch": 32, "precision": "fp32"}


def test_it_is_shorter_and_gentler_than_training_until_told_otherwise():
    assert FineTune().epochs < Train().epochs
    assert FineTune().rate == Train().rate / 10
    assert FineTune(gentle=True).rate == Train().rate / 25
    assert FineTune(lr=0.3).rate == FineTune(lr=0.3, gentle=True).rate == 0.3


def test_it_trains(tmp_path):
    FineTune.parse(KEYS).apply(subject(), context(tmp_path))
    assert (tmp_path / "history.json").is_file()
    assert methods.get("finetune") is FineTune
    assert not FineTune.compresses


def test_it_says_that_it_is_gentle_only_if_it_is(tmp_path):
    class Ear(type(context(tmp_path).monitor)):
        said = ()

        def say(self, text):
            self.said += (text,)

    for keys, told in (({"gentle": True}, True), ({}, False), ({"gentle": True, "lr": 0.001}, False)):
        ear = Ear()
        FineTune.parse(KEYS | keys).apply(subject(), context(tmp_path / str(len(keys)), monitor=ear))
        assert any("learning rate starts at" in line for line in ear.said) == told


REPAIRED = {"prune": {"sparsity": 0.5}}
ONE = {"finetune": {"epochs": 1}}
RATE = {"finetune": {"epochs": 1, "lr": 0.01}}
PLAIN = {"prune": {"sparsity": 0.5, "repair": False}}
ROUNDS = {"prune": {"sparsity": 0.5, "when": {"kind": "iterative"}}}


def gentle(folder, *steps):
    """For each finetune step of a recipe with these steps, true if it is gentle."""
    recipe = {"name": "one", "model": {"arch": "resnet20"}, "data": {"name": "digits"}, "steps": list(steps)}
    file = folder / "one.yaml"
    file.write_text(yaml.safe_dump(recipe))
    return [step.method.gentle for step in load_recipe(str(file)).steps if step.name == "finetune"]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([REPAIRED, ONE], [True]),
        ([REPAIRED, "finetune"], [True]),
        ([REPAIRED, {"finetune": None}], [True]),
        ([{"prune": {"sparsity": 0.5, "repair": {"images": 100}}}, ONE], [True]),
        ([{"prune": {"sparsity": 0.5, "repair": True, "when": {"kind": "oneshot"}}}, ONE], [True]),
        ([PLAIN, "repair", ONE], [True]),
        ([PLAIN, {"repair": {"images": 100}}, ONE], [True]),
        ([PLAIN, ONE], [False]),
        ([ROUNDS, ONE], [False]),
        ([{"prune": {"preset": "halp", "budget": {"macs": 0.5}}}, ONE], [False]),
        ([REPAIRED, PLAIN, ONE], [False]),
        ([REPAIRED, ONE, ONE], [True, False]),
        ([ONE, REPAIRED, ONE], [False, True]),
        ([ONE, REPAIRED, ONE, PLAIN, ONE, REPAIRED, ONE], [False, True, False, True]),
        (["finetune", REPAIRED, "finetune"], [False, True]),
        ([REPAIRED, RATE], [False]),
        ([REPAIRED, {"finetune": {"gentle": False}}], [False]),
        ([PLAIN, {"finetune": {"gentle": True}}], [True]),
        ([REPAIRED, {"train": {"epochs": 1}}, ONE], [False]),
    ],
)
def test_it_is_gentle_exactly_behind_a_repair(tmp_path, steps, expected):
    assert gentle(tmp_path, *steps) == expected
