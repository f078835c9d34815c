"""Each stage gets the images that it may see, spread over the classes where it gets some of them."""

from dataclasses import replace

import numpy as np
import pytest

from edgecr.data.base import Dataset, Preprocessing
from edgecr.data.sets import MemorySet
from edgecr.data.splits import spread
from edgecr.data.views import HeldOutData, LearningData, ProofData

CLASSES = ("a", "b", "c", "d")


def sorted_set(counts, marker):
    """Images sorted by class, as lists of files are; the pixels are the split's marker and the class."""
    labels = np.repeat(np.arange(len(counts)), counts)
    pixels = np.zeros((len(labels), 2, 2, 3), dtype=np.uint8)
    pixels[..., 0], pixels[..., 1] = marker, labels[:, None, None]
    return MemorySet(pixels, labels)


@pytest.fixture
def data():
    sets = [sorted_set([100] * 4, marker) for marker in (1, 2, 3)]
    shape = Preprocessing((0.5,) * 3, (0.5,) * 3, (2, 2))
    return Dataset("d", CLASSES, *sets, shape, "none", "whole", "seen")


@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.parametrize(
    ("counts", "wanted", "given"),
    [
        ([100] * 4, 64, [16, 16, 16, 16]),
        ([100, 3, 100, 1], 64, [30, 3, 30, 1]),
        ([5] * 4, 64, [5, 5, 5, 5]),
        ([0, 7, 0, 7], 6, [0, 3, 0, 3]),
    ],
)
def test_a_sample_has_equal_shares_of_sorted_classes(counts, wanted, given, seed):
    labels = np.repeat(np.arange(4), counts)
    chosen = spread(labels, wanted, seed)
    assert np.bincount(labels[chosen], minlength=4).tolist() == given
    assert (np.diff(chosen) > 0).all()
    assert np.array_equal(chosen, spread(labels, wanted, seed))


def test_a_sample_smaller_than_the_number_of_classes_has_no_class_twice():
    labels = np.repeat(np.arange(100), 3)
    chosen = labels[spread(labels, 20)]
    assert len(set(chosen)) == 20
    assert chosen.max() > 50


def test_another_seed_draws_other_images():
    labels = np.repeat(np.arange(4), 50)
    assert not np.array_equal(spread(labels, 20), spread(labels, 20, seed=1))
    assert spread(labels[:0], 5).tolist() == []


def test_methods_see_training_and_validation_only(data):
    view = LearningData.of(data)
    assert view.train is data.train
    assert view.validation is data.validation
    assert not any(value is data.test for value in vars(view).values())
    assert view.fingerprint == "seen"


def test_exporters_calibrate_on_training_and_prove_on_validation_images(data):
    view = ProofData.of(data)
    for images, marker in ((view.calibration(10), 1), (view.parity(10), 2)):
        assert set(images[..., 0].ravel()) == {marker}
        assert sorted(np.bincount(images[:, 0, 0, 1], minlength=4)) == [2, 2, 3, 3]
    assert not any(value is data.test for value in vars(view).values())


def test_other_test_images_leave_what_is_learnt_and_proven_as_it_is(data):
    other = replace(data, fingerprint="other test images")
    for view in (LearningData, ProofData):
        assert view.of(other).fingerprint == view.of(data).fingerprint == "seen"
        assert view.of(replace(other, seen_by_steps="")).fingerprint == "other test images"


def test_the_robustness_stage_sees_test_images_only(data):
    view = HeldOutData.of(data)
    assert view.test is data.test
    assert not any(value in (data.train, data.validation) for value in vars(view).values())


def test_images_to_judge_by_come_with_their_own_targets(data):
    images, targets = ProofData.of(data).judging(24)
    assert np.bincount(targets).tolist() == [6, 6, 6, 6]
    assert set(images[..., 0].ravel()) == {2}, "of validation"
    assert images[:, 0, 0, 1].tolist() == targets.tolist()
