from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
from pydantic import ValidationError
from torchvision import datasets

from edgecr.core.errors import FileProblem
from edgecr.core.options import Options
from edgecr.core.progress import Monitor
from edgecr.data import AnySource, sources
from edgecr.data.splits import stratified


class Holder(Options):
    data: AnySource


@pytest.fixture(scope="module")
def digits():
    return Holder.parse({"data": {"name": "digits"}}).data.load()


def test_the_field_type_chooses_the_source():
    assert Holder.parse({"data": {"name": "folder", "root": "x", "size": 32}}).plain() == {
        "data": {"name": "folder", "root": "x", "size": 32}
    }
    with pytest.raises(ValidationError, match="Did you mean 'digits'"):
        Holder.parse({"data": {"name": "digit", "seed": "x"}})


def test_digits_are_real_and_divided_evenly(digits):
    parts = (digits.train, digits.validation, digits.test)
    assert sum(len(part) for part in parts) == 1797
    assert len(digits.train) > 0.55 * 1797
    for part in parts:
        shares = np.bincount(part.labels, minlength=10) / len(part)
        assert shares.min() > 0.09
    images = digits.train.numpy(range(20))
    assert images.shape == (20, 32, 32, 3)
    assert images.dtype == np.uint8
    assert images.max() > 200
    assert np.array_equal(images[..., 0], images[..., 2])
    assert digits.augmentation == "shift"


def test_no_digit_is_in_two_parts(digits):
    seen = [
        {image.tobytes() for image in part.numpy(range(len(part)))}
        for part in (digits.train, digits.validation, digits.test)
    ]
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]


def test_the_seed_of_the_digits_chooses_the_parts(digits):
    kind = sources.get("digits")
    assert kind.parse({"name": "digits"}).load().fingerprint == digits.fingerprint
    assert kind.parse({"name": "digits", "seed": 1}).load().fingerprint != digits.fingerprint


@pytest.mark.parametrize("seed", [0, 5])
def test_stratified_parts_are_disjoint_and_whole(seed):
    labels = np.array([0] * 10 + [1] * 100 + [2] * 3 + [3])
    parts = stratified(labels, (0.1, 0.2), seed)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))
    assert [np.bincount(labels[part], minlength=4).tolist() for part in parts[1:]] == [
        [1, 10, 1, 0],
        [2, 20, 1, 0],
    ]
    assert all(np.array_equal(one, two) for one, two in zip(parts, stratified(labels, (0.1, 0.2), seed)))


class Voice(Monitor):
    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


def fake_cifar(available, failure=None):
    """Stands in for torchvision's class, which would need a network."""

    def construct(root, train, download):
        if failure and download:
            raise failure
        if not available and not download:
            raise RuntimeError("Dataset not found or corrupted.")
        random = np.random.RandomState(train)
        images = random.randint(0, 255, (100, 32, 32, 3), dtype=np.uint8)
        return SimpleNamespace(data=images, targets=[0, 1] * 50, classes=["cat", "dog"])

    construct.url, construct.filename = "https://example.org/cifar.tar.gz", "cifar.tar.gz"
    return construct


def test_cifar_keeps_validation_apart(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets, "CIFAR10", fake_cifar(available=True))
    voice = Voice()
    data = sources.get("cifar10").parse({"name": "cifar10", "root": str(tmp_path)}).load(voice)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [90, 10, 100]
    assert data.classes == ("cat", "dog")
    assert voice.said == []


def test_cifar_says_what_it_downloads(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets, "CIFAR100", fake_cifar(available=False))
    voice = Voice()
    sources.get("cifar100").parse({"name": "cifar100", "root": str(tmp_path)}).load(voice)
    assert all("170 MB" in text and str(tmp_path) in text for text in voice.said)
    assert voice.said


def test_cifar_without_a_network_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets, "CIFAR10", fake_cifar(available=False, failure=URLError("no network")))
    with pytest.raises(FileProblem, match=r"no network.*cifar\.tar\.gz.*--set data\.name=folder"):
        sources.get("cifar10").parse({"name": "cifar10", "root": str(tmp_path)}).load()
