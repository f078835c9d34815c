from edgecr.methods.base import methods
from edgecr.methods.finetune import FineTune
from edgecr.methods.train import Train
from tests.workplace import context, subject


def test_it_is_shorter_and_gentler_than_training_until_told_otherwise():
    assert FineTune().epochs < Train().epochs
    assert FineTune().rate == Train().rate / 10
    assert FineTune(lr=0.3).rate == 0.3


def test_it_trains(tmp_path):
    keys = {"epochs": 1, "batch": 32, "precision": "fp32"}
    FineTune.parse(keys).apply(subject(), context(tmp_path))
    assert (tmp_path / "history.json").is_file()
    assert methods.get("finetune") is FineTune
    assert not FineTune.compresses
