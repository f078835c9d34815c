"""The forms in which a caller has images, as datasets."""

import numpy as np
import pytest
import torch
from PIL import Image

from edgecr.api.images import Joined, as_is, dataset_of, held_out
from edgecr.core.errors import EdgecrError
from edgecr.core.progress import Monitor
from edgecr.data.base import Preprocessing
from edgecr.data.sets import MemorySet
from edgecr.training.inputs import Inputs

HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


@pytest.fixture
def flat(tmp_path):
    """Two classes of five images each, without splits."""
    for number, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        for shade in range(5):
            Image.new("RGB", (6, 6), (number * 100, shade, 0)).save(tmp_path / name / f"{shade}.png")
    return tmp_path


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_a_models_inputs_reach_it_bit_by_bit(channels):
    inputs = torch.randn(7, channels, 4, 6) * 1000
    inputs[0, 0, 0, :3] = torch.tensor([1e-30, -3.4e37, 1 / 3])
    data = dataset_of((inputs, np.arange(7)))
    found = Inputs(data.preprocessing, torch.device("cpu")).normalise(data.train.images(np.array([0, 6, 3])))
    assert torch.equal(found, inputs[[0, 6, 3]])
    assert data.preprocessing == as_is(channels, (4, 6))


def test_pixels_are_kept_with_the_stated_preprocessing():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), dtype=np.uint8)
    data = dataset_of((pixels, torch.tensor([2, 0, 1])), **HALF)
    assert np.array_equal(data.train.numpy([0, 1, 2]), pixels)
    assert data.train.labels.tolist() == [2, 0, 1]
    assert data.preprocessing == Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), (4, 5))


def test_the_fingerprint_follows_every_number_and_label():
    inputs, labels = torch.zeros(4, 3, 2, 2), np.array([0, 1, 0, 1])
    prints = {dataset_of((inputs, labels)).fingerprint}
    for change in range(2):
        changed, others = inputs.clone(), labels.copy()
        changed[3, 2, 1, 1], others[0] = change == 0, int(change == 1)
        prints.add(dataset_of((changed, others)).fingerprint)
    assert len(prints) == 3


def test_a_folder_is_the_recipes_source(flat):
    data = dataset_of(str(flat), size=(6, 6), **HALF)
    assert data.classes == ("a", "b")
    assert len(data.train) + len(data.validation) + len(data.test) == 10
    with pytest.raises(EdgecrError, match="size="):
        dataset_of(flat, **HALF)
    with pytest.raises(EdgecrError, match=r"mean=\(…\)"):
        dataset_of(flat, size=(6, 6))


def test_files_are_shown_a_whole_folder_without_splits_but_only_test_images_of_one_with(flat, tmp_path_factory):
    shape = Preprocessing((0, 0, 0), (1, 1, 1), (6, 6))
    whole = held_out(flat, shape, Monitor())
    assert len(whole.test) == 10
    assert whole.classes == ("a", "b")
    found = {tuple(pixel) for pixel in whole.test.numpy(np.arange(10))[:, 0, 0].tolist()}
    assert found == {(100 * number, shade, 0) for number in range(2) for shade in range(5)}
    for label, image in zip(whole.test.labels, whole.test.numpy(np.arange(10))):
        assert image[0, 0, 0] == 100 * label
    split = tmp_path_factory.mktemp("split")
    for name in ("train", "test"):
        (split / name).mkdir()
        for each in ("a", "b"):
            (flat / each).rename(split / name / each) if name == "train" else (split / name / each).mkdir()
            Image.new("RGB", (6, 6), (ord(each), 0, 50 + len(name))).save(split / name / each / "new.png")
    assert len(held_out(split, shape, Monitor()).test) == 2


def test_joined_sets_keep_their_order():
    one, two = (MemorySet(np.full((count, 1, 1, 3), count, np.uint8), np.arange(count)) for count in (3, 2))
    both = Joined((one, two))
    assert both.labels.tolist() == [0, 1, 2, 0, 1]
    assert both.numpy([4, 0, 3, 2])[:, 0, 0, 0].tolist() == [2, 3, 2, 3]


@pytest.mark.parametrize("wrong", [{"mean": 123}, {"std": (0.5, 0, 0.5)}, {"std": (58.4, 57.1, 57.4)}])
def test_the_scale_of_pixels_is_checked(wrong):
    pixels = np.zeros((4, 6, 6, 3), np.uint8), np.arange(4)
    with pytest.raises(EdgecrError, match=r"scale from 0 to 1|divide them by 255"):
        dataset_of(pixels, **(HALF | wrong))


def test_an_error_of_the_callers_own_code_is_left_as_it_is():
    def batches():
        yield torch.rand(2, 3, 4, 4), torch.tensor([0, 1])
        raise ValueError("the disk of the caller")

    with pytest.raises(ValueError, match="the disk of the caller"):
        dataset_of(batches())


@pytest.mark.parametrize("wrong", [3, [3], [(1, 2, 3)], [(torch.tensor(1.0), 0)]])
def test_what_holds_no_batches_is_refused(wrong):
    with pytest.raises(EdgecrError, match="data is a folder, a mapping"):
        dataset_of(wrong)
