import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from edgecr.core.errors import FileProblem
from edgecr.data import sources
from edgecr.data.folder import held_out


def tree(root, counts, shape=(8, 8)):
    """Image files by class folder; every image has a colour of its own."""
    number = 0
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            number += 1
            pixels = np.full((*shape, 3), number, dtype=np.uint8)
            Image.fromarray(pixels).save(root / folder / f"{index:02}.png")
    return root


def declared(root, **options):
    return sources.get("folder").parse({"name": "folder", "root": str(root), "size": 8, **options})


def colours(image_set):
    return set(image_set.numpy(range(len(image_set)))[:, 0, 0, 0].tolist())


def test_a_flat_tree_is_divided_by_the_seed(tmp_path):
    tree(tmp_path, {"cat": 10, "ant": 20})
    data = declared(tmp_path, validation=0.1, test=0.2).load()
    assert data.classes == ("ant", "cat")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [21, 3, 6]
    assert np.bincount(data.test.labels).tolist() == [4, 2]
    parts = [colours(part) for part in (data.train, data.validation, data.test)]
    assert set.union(*parts) == set(range(1, 31))
    assert sum(len(part) for part in parts) == 30
    assert declared(tmp_path).load().fingerprint == data.fingerprint
    assert declared(tmp_path, seed=1).load().fingerprint != data.fingerprint


def test_split_folders_are_kept(tmp_path):
    tree(
        tmp_path,
        {f"{split}/{name}": count for split, count in (("train", 4), ("val", 3), ("test", 2)) for name in "ab"},
    )
    data = declared(tmp_path).load()
    assert [len(part) for part in (data.train, data.validation, data.test)] == [8, 6, 4]
    assert data.train.labels.tolist() == [0] * 4 + [1] * 4


@pytest.mark.parametrize("held_out", ["test", "val"])
def test_validation_is_drawn_from_training_when_one_folder_is_held_out(tmp_path, held_out):
    tree(tmp_path, {"train/a": 10, "train/b": 10, f"{held_out}/a": 3, f"{held_out}/b": 3})
    data = declared(tmp_path, validation=0.2).load()
    assert [len(part) for part in (data.train, data.validation, data.test)] == [16, 4, 6]
    assert colours(data.test) == set(range(21, 27))


@pytest.mark.parametrize(
    ("train", "validation", "test"), [("training", "valid", "testing"), ("Train", "Validation", "Test")]
)
def test_split_folders_have_several_names(tmp_path, train, validation, test):
    counts = {train: 4, validation: 3, test: 2}
    tree(tmp_path, {f"{split}/{name}": count for split, count in counts.items() for name in "ab"})
    data = declared(tmp_path).load()
    assert data.classes == ("a", "b")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [8, 6, 4]


def test_two_names_of_one_split_are_refused(tmp_path):
    tree(tmp_path, {f"{split}/{name}": 3 for split in ("train", "training", "test") for name in "ab"})
    assert "train and training, and each could be for train. Keep one" in refusal(tmp_path)
    assert "val and valid" in refusal(
        tree(tmp_path / "x", {f"{split}/{name}": 3 for split in ("train", "val", "valid") for name in "ab"})
    )


@pytest.mark.parametrize("other", [[], ["images"]])
def test_splits_without_one_for_training_are_not_taken_for_classes(tmp_path, other):
    tree(tmp_path, {f"{split}/{name}": 3 for split in ("test", "val", *other) for name in "ab"})
    message = refusal(tmp_path)
    assert "no folder for training" in message
    assert ("is it images?" in message) == bool(other)


def test_classes_with_folders_inside_may_be_called_valid(tmp_path):
    tree(tmp_path, {"valid/monday": 5, "invalid/tuesday": 5})
    assert declared(tmp_path).load().classes == ("invalid", "valid")


def test_a_class_may_be_called_train(tmp_path):
    assert declared(tree(tmp_path, {"train": 5, "tram": 5})).load().classes == ("train", "tram")


def test_images_are_resized_by_the_short_side_and_cut_in_the_middle(tmp_path):
    pixels = np.zeros((20, 40, 3), dtype=np.uint8)
    pixels[:, 6:34, 0] = 200
    tree(tmp_path, {"a": 4, "b": 4})
    Image.fromarray(pixels).save(tmp_path / "a" / "00.png")
    Image.fromarray(pixels[..., 0]).save(tmp_path / "a" / "01.png")
    data = declared(tmp_path, size=[10, 10], test=0.25, validation=0.25).load()
    images = np.concatenate([part.numpy(range(len(part))) for part in (data.train, data.validation, data.test)])
    assert images.shape == (8, 10, 10, 3)
    assert images.dtype == np.uint8
    cut = [image for image in images if image.max() == 200]
    assert len(cut) == 2
    assert all((image[..., 0] == 200).all() for image in cut)
    assert data.preprocessing.size == (10, 10)


def test_streams_give_the_same_images_and_splits(tmp_path):
    tree(tmp_path, {"a": 6, "b": 6})
    memory, stream = declared(tmp_path).load(), declared(tmp_path, memory_limit_mb=0).load()
    assert not memory.train.streams
    assert stream.train.streams
    assert np.array_equal(memory.train.numpy([3, 0]), stream.train.numpy([3, 0]))
    assert np.array_equal(memory.test.labels, stream.test.labels)


@pytest.mark.parametrize("limit", [0, 100])
def test_the_fingerprint_sees_images_names_and_labels(tmp_path, limit):
    def now():
        return declared(tmp_path, memory_limit_mb=limit).load().fingerprint

    tree(tmp_path, {"a": 6, "b": 6})
    seen = [now()]
    Image.fromarray(np.random.RandomState(0).randint(0, 255, (8, 8, 3), dtype=np.uint8)).save(tmp_path / "a/00.png")
    seen.append(now())
    (tmp_path / "a/05.png").rename(tmp_path / "b/06.png")
    seen.append(now())
    (tmp_path / "b").rename(tmp_path / "c")
    seen.append(now())
    assert len(set(seen)) == 4
    assert now() == seen[-1]


def test_other_normalisation_and_augmentation(tmp_path):
    tree(tmp_path, {"a": 6, "b": 6})
    data = declared(tmp_path, mean=[0, 0, 0], std=[1, 1, 1], augmentation="none").load()
    assert data.augmentation == "none"
    assert data.preprocessing.apply(np.full((1, 8, 8, 3), 255, dtype=np.uint8)).max() == 1
    with pytest.raises(ValidationError):
        declared(tmp_path, std=[1, 0, 1])


def refusal(root, **options):
    with pytest.raises(FileProblem) as caught:
        declared(root, **options).load()
    return str(caught.value)


def test_missing_roots_and_missing_classes(tmp_path):
    assert "does not exist" in refusal(tmp_path / "nowhere")
    assert "0 class folders" in refusal(tmp_path)
    assert "1 class folders" in refusal(tree(tmp_path, {"a": 3}))


def test_an_empty_class_folder_is_named(tmp_path):
    tree(tmp_path, {"a": 3, "b": 0, "c": 3})
    (tmp_path / "b/.hidden").touch()
    assert str(tmp_path / "b") in refusal(tmp_path)


def test_classes_must_be_the_same_in_every_split(tmp_path):
    tree(tmp_path, {"train/a": 3, "train/b": 3, "test/a": 3, "test/c": 3})
    assert "b, c" in refusal(tmp_path)


def test_too_few_images_for_three_parts(tmp_path):
    assert "too few images" in refusal(tree(tmp_path, {"a": 1, "b": 1}))


def test_files_that_are_no_images_are_named_up_to_ten(tmp_path):
    tree(tmp_path, {"a": 6, "b": 6})
    whole = (tmp_path / "a/00.png").read_bytes()
    (tmp_path / "a/00.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "b/note.txt").write_text("no image")
    (tmp_path / "b/Thumbs.db").write_text("debris of a file manager is passed over")
    message = refusal(tmp_path, seed=3)
    assert "a/00.png" in message or "b/note.txt" in message
    for number in range(30):
        (tmp_path / f"a/x{number}.png").write_text("no image")
    message = refusal(tmp_path)
    assert message.count("not an image") == 10
    assert "and " in message.splitlines()[-1]


def test_a_bad_image_of_a_stream_is_named_when_it_is_read(tmp_path):
    tree(tmp_path, {"a": 6, "b": 6})
    data = declared(tmp_path, memory_limit_mb=0).load()
    for file in tmp_path.rglob("*.png"):
        file.unlink()
    with pytest.raises(FileProblem, match=r"\.png: No such file"):
        data.train.images([0])


@pytest.mark.parametrize(
    ("folders", "used", "trained"),
    [
        (("train/a", "train/b", "test/a", "test/b"), "test", ("a", "b")),
        (("train/a", "train/b", "val/a", "val/b", "test/a", "test/b"), "test", ("a", "b")),
        (("train/a", "train/b", "val/a", "val/b"), "val", ("a", "b")),
        (("test/a", "test/b"), "test", ()),
        (("Valid/a", "Valid/b"), "Valid", ()),
        (("photos/a", "photos/b", "testing/a", "testing/b"), "testing", ()),
        (("a", "b"), "", ()),
        (("valid/monday", "invalid/tuesday"), "", ()),
        (("train", "tram"), "", ()),
    ],
)
def test_only_held_out_images_are_read_for_judging(tmp_path, folders, used, trained):
    tree(tmp_path, dict.fromkeys(folders, 3))
    found = held_out(tmp_path)
    assert found.folder == tmp_path / used
    assert found.trained == trained
    assert all(file.startswith(f"{used}/" if used else "") for file in found.listing.files)
    assert len(found.listing.files) == 6
    images = found.load(found.listing, (8, 8))
    assert images.labels.tolist() == [0, 0, 0, 1, 1, 1]
    streamed = found.load(found.listing, (8, 8), memory_limit_mb=0)
    assert np.array_equal(images.numpy(range(6)), streamed.numpy(range(6)))
    assert colours(images) == colours(streamed)


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        ({"train/a": 2, "train/b": 2}, "holds train/, but neither test/ nor val/"),
        ({"test/a": 2, "testing/a": 2}, "test and testing: each could be the one"),
        ({"test/a": 0, "test/b": 2}, "without images"),
        ({}, "no test images"),
    ],
)
def test_folders_without_test_images_say_what_is_missing(tmp_path, folders, words):
    tree(tmp_path, folders)
    with pytest.raises(FileProblem, match=words):
        held_out(tmp_path)
    with pytest.raises(FileProblem, match="does not exist"):
        held_out(tmp_path / "nowhere")


def test_images_are_read_without_torch(tmp_path):
    tree(tmp_path, {"a": 2, "b": 2})
    code = (
        "import sys\nfrom pathlib import Path\nfrom edgecr.data.folder import held_out\n"
        f"found = held_out(Path({str(tmp_path)!r}))\n"
        "assert found.load(found.listing, (8, 8)).numpy([3]).shape == (1, 8, 8, 3)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take UTF-8 names only")
def test_a_class_that_no_report_could_name_is_refused_at_once(tmp_path):
    for name in (b"gr\xe9", b"other"):
        os.makedirs(os.path.join(os.fsencode(tmp_path), name))
    with pytest.raises(FileProblem, match="not UTF-8") as refused:
        held_out(tmp_path)
    assert repr("gr\udce9") in str(refused.value)
