"""No test image is seen in training: copies in folders that were given are refused, drawn parts lose theirs."""

import shutil
import time

import numpy as np
import pytest
from PIL import Image

from edgecr.core.errors import FileProblem
from edgecr.core.progress import Monitor
from edgecr.data import sources
from edgecr.data.given import GivenImages
from edgecr.data.overlap import shared
from edgecr.data.sets import MemorySet

IN_MEMORY, ON_DISK = 2048, 0


class Told(Monitor):
    """Remembers what is said."""

    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


def write(folder, count, seed=0):
    """Images that all differ, as uncompressed files of one size."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{number:03}.bmp")


def load(root, limit=IN_MEMORY, **options):
    values = {"name": "folder", "root": str(root), "size": 8, "memory_limit_mb": limit} | options
    told = Told()
    return sources.get("folder").parse(values).load(told), told.lines


def pixels(part):
    return {part.numpy([index]).tobytes() for index in range(len(part))}


@pytest.fixture
def divided(tmp_path):
    for seed, split in enumerate(("train", "val", "test")):
        write(tmp_path / split, 12, seed)
    return tmp_path


@pytest.mark.parametrize("limit", [IN_MEMORY, ON_DISK])
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_test_image_in_another_split_is_refused_by_both_names(divided, limit, split):
    load(divided, limit)
    shutil.copy(divided / split / "003.bmp", divided / "test" / "copy.bmp")
    with pytest.raises(FileProblem, match=rf"1 test image is .*\n  test/copy.bmp = {split}/003.bmp"):
        load(divided, limit)


def test_the_same_pixels_in_another_file_are_found_too(divided):
    Image.open(divided / "train/005.bmp").save(divided / "test/other.png")
    with pytest.raises(FileProblem, match=r"test/other.png = train/005.bmp"):
        load(divided)


def test_images_of_training_and_validation_alone_may_be_alike(divided):
    shutil.copy(divided / "train/003.bmp", divided / "val/copy.bmp")
    assert load(divided)[1] == []


@pytest.mark.parametrize("limit", [IN_MEMORY, ON_DISK])
def test_drawn_parts_lose_the_copies_of_test_images(tmp_path, limit):
    write(tmp_path, 30)
    for number in range(30):
        shutil.copy(tmp_path / f"{number:03}.bmp", tmp_path / f"copy{number:03}.bmp")
    data, told = load(tmp_path, limit)
    assert not pixels(data.test) & (pixels(data.train) | pixels(data.validation))
    assert len(pixels(data.test)) == len(data.test)
    twice, gone = 12 - len(data.test), 48 - len(data.train) - len(data.validation)
    assert min(twice, gone) > 0
    assert told == [
        f"Left out of the test images: {twice} copies of others among them.",
        f"Left out of training and validation: {gone} copies of test images.",
    ]


@pytest.mark.parametrize("limit", [IN_MEMORY, ON_DISK])
def test_copies_among_the_test_images_count_once(divided, limit):
    before, silent = load(divided, limit)
    assert silent == []
    for number in range(40):
        shutil.copy(divided / "test/003.bmp", divided / f"test/copy{number:02}.bmp")
    after, told = load(divided, limit)
    assert (len(after.test), pixels(after.test)) == (12, pixels(before.test))
    assert after.fingerprint == before.fingerprint
    assert told == ["Left out of the test images: 40 copies of others among them."]


def test_drawn_pixels_are_tested_once_each():
    images = np.random.default_rng(0).integers(0, 256, (30, 4, 4, 3), dtype=np.uint8).repeat(20, axis=0)
    content = GivenImages.keep(MemorySet(images, np.zeros(600)))
    data = GivenImages(name="given", content=content).load()
    assert len(data.test) == len(pixels(data.test)) <= 30


def test_a_folder_of_one_image_many_times_is_too_few(tmp_path):
    write(tmp_path, 1)
    for number in range(20):
        shutil.copy(tmp_path / "000.bmp", tmp_path / f"copy{number}.bmp")
    with pytest.raises(FileProblem, match="too few images: none is left for training"):
        load(tmp_path)


def test_each_shared_image_is_told_once_beside_the_first_like_it():
    images = np.random.default_rng(0).integers(0, 256, (9, 4, 4, 3), dtype=np.uint8)
    one, other = MemorySet(images[[0, 1, 1, 5]], np.zeros(4)), MemorySet(images[[7, 1, 5, 1]], np.zeros(4))
    assert shared(one, other) == [(1, 1), (2, 1), (3, 2)]
    assert shared(one, MemorySet(images[6:], np.zeros(3))) == []


def test_fifty_thousand_images_take_no_time():
    images = np.random.default_rng(0).integers(0, 256, (50_000, 8, 8, 3), dtype=np.uint8)
    start = time.process_time()
    assert shared(MemorySet(images[:40_000], np.zeros(40_000)), MemorySet(images[40_000:], np.zeros(10_000))) == []
    assert time.process_time() - start < 5
