"""Images that lie in no class folders: read, divided, and never taken for labelled ones."""

import numpy as np
import pytest
from PIL import Image

from edgecr.core.errors import FileProblem
from edgecr.data.base import NO_LABEL
from edgecr.data.folder import held_out
from edgecr.data.views import HeldOutData, LearningData
from tests.data.test_folder import colours, declared


def plain(folder, count, first=1):
    """Images of a colour each, in the folder itself."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(folder / f"{number:03}.png")
    return folder


def test_images_in_the_root_are_divided_and_have_no_labels(tmp_path):
    plain(tmp_path, 30)
    (tmp_path / ".hidden").mkdir()
    plain(tmp_path / ".hidden", 1, first=99)
    source = declared(tmp_path, validation=0.1, test=0.2)
    data = source.load()
    assert not source.has_labels()
    assert not data.labelled
    assert data.classes == ()
    assert [len(part) for part in (data.train, data.validation, data.test)] == [21, 3, 6]
    assert set.union(*map(colours, (data.train, data.validation, data.test))) == set(range(1, 31))
    assert set(data.test.labels.tolist()) == {NO_LABEL}
    assert not LearningData.of(data).labelled
    assert not HeldOutData.of(data).labelled
    assert declared(tmp_path).load().fingerprint == data.fingerprint


@pytest.mark.parametrize(("splits", "counts"), [("train val test", [8, 4, 4]), ("training testing", [7, 1, 4])])
def test_split_folders_may_hold_images_themselves(tmp_path, splits, counts):
    for number, split in enumerate(splits.split()):
        plain(tmp_path / split, 8 if number == 0 else 4, first=20 * number + 1)
    data = declared(tmp_path).load()
    assert not data.labelled
    assert [len(part) for part in (data.train, data.validation, data.test)] == counts
    assert min(colours(data.test)) > 20


def test_streamed_images_have_no_labels_either(tmp_path):
    plain(tmp_path, 20)
    data = declared(tmp_path, memory_limit_mb=0).load()
    assert data.test.streams
    assert set(data.test.labels.tolist()) == {NO_LABEL}


def test_class_folders_win_over_files_beside_them(tmp_path):
    for name in ("cat", "ant"):
        plain(tmp_path / name, 6)
    plain(tmp_path, 2)
    assert declared(tmp_path).has_labels()
    assert declared(tmp_path).load().classes == ("ant", "cat")


def test_a_split_with_labels_beside_one_without_is_refused(tmp_path):
    plain(tmp_path / "train", 6)
    for name in ("a", "b"):
        plain(tmp_path / "test" / name, 3)
    for read in (declared(tmp_path).load, declared(tmp_path).has_labels):
        with pytest.raises(FileProblem, match="either all images lie in class folders, or none do"):
            read()


def test_a_folder_of_other_files_is_not_taken_for_images(tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(FileProblem, match="0 class folders"):
        declared(tmp_path).load()
    with pytest.raises(FileProblem, match="neither class folders nor images"):
        held_out(tmp_path)


def test_judging_reads_a_folder_without_labels(tmp_path):
    found = held_out(plain(tmp_path / "flat", 5))
    assert (found.labelled, found.classes, len(found.listing.files)) == (False, (), 5)
    assert found.load(found.listing, (8, 8)).labels.tolist() == [NO_LABEL] * 5
    plain(tmp_path / "split/train", 4)
    plain(tmp_path / "split/test", 3, first=50)
    found = held_out(tmp_path / "split")
    assert found.folder == tmp_path / "split/test"
    assert colours(found.load(found.listing, (8, 8))) == {50, 51, 52}


def test_classes_of_the_training_images_name_those_of_test_images_without_labels(tmp_path):
    for name in ("a", "b"):
        plain(tmp_path / "train" / name, 3)
    plain(tmp_path / "test", 3)
    found = held_out(tmp_path)
    assert (found.labelled, found.trained) == (False, ("a", "b"))
