import torch

from edgecr.methods.base import methods
from edgecr.methods.train import Train
from edgecr.subject import Subject
from tests.workplace import context, dataset, subject

KEYS = {"epochs": 2, "batch": 32, "precision": "fp32"}


def test_it_trains_the_subject_on_the_spot_and_leaves_a_history(tmp_path):
    before = subject()
    after = Train.parse(KEYS).apply(subject(), context(tmp_path))
    assert after.surgery == ()
    assert (after.architecture, after.classes) == (before.architecture, 3)
    moved = zip(after.module.parameters(), before.module.parameters())
    assert not any(torch.equal(new, old) for new, old in moved)
    assert (tmp_path / "history.json").is_file()


def test_the_result_survives_saving(tmp_path):
    trained = Train.parse(KEYS).apply(subject(), context(tmp_path))
    trained.save(tmp_path / "subject")
    images = dataset().preprocessing.apply(dataset().test.numpy(range(20)))
    read = Subject.load(tmp_path / "subject")
    with torch.no_grad():
        assert torch.equal(*(s.module(torch.from_numpy(images)) for s in (trained, read)))


def test_it_is_registered_and_compresses_nothing():
    assert methods.get("train") is Train
    assert not Train.compresses
