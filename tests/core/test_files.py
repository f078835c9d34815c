"""Writing is all or nothing."""

import errno
from pathlib import Path

import pytest

from edgecr.core.errors import FileProblem, StorageError
from edgecr.core.files import fingerprint, read_json, replacing, replacing_folder, write_json, write_text
from edgecr.core.step_record import write_record
from edgecr.surgery.planning.record import NAME, PlanRecord


def test_a_failed_block_leaves_the_old_file_and_no_rest(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_failed_block_leaves_the_old_folder_and_no_rest(tmp_path):
    folder = tmp_path / "f"
    with replacing_folder(folder) as temporary:
        (temporary / "x").write_text("old")
    with pytest.raises(RuntimeError), replacing_folder(folder) as temporary:
        (temporary / "x").write_text("half")
        raise RuntimeError
    assert (folder / "x").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_a_full_disk_is_explained(tmp_path):
    with pytest.raises(StorageError, match=r"disk is full.*continues"), replacing(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_explained():
    with pytest.raises(StorageError, match="/proc/edgecr/x"), replacing_folder(Path("/proc/edgecr/x")):
        pass


def test_json_round_trip_and_damage(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": [None, True]})
    assert read_json(tmp_path / "a.json") == {"b": 1, "a": [None, True]}
    (tmp_path / "a.json").write_text('{"b": ')
    with pytest.raises(FileProblem, match="not valid JSON"):
        read_json(tmp_path / "a.json")
    with pytest.raises(FileProblem, match="does not exist"):
        read_json(tmp_path / "none.json")
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "nan.json", float("nan"))


def test_values_that_do_not_fit_are_told_with_their_place(tmp_path):
    widths = [{"group": "conv1", "before": "many", "after": 1}]
    write_record(tmp_path, NAME, {"widths": widths})
    with pytest.raises(FileProblem, match=r"plan\.json is not the plan of a pruning: widths\.0\.before: "):
        PlanRecord.load(tmp_path)


def test_fingerprint_ignores_key_order_only():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint([1, 2]) != fingerprint([2, 1])


def test_what_cannot_be_read_again_is_not_written(tmp_path):
    with pytest.raises(FileProblem, match=r"not UTF-8. Rename") as refused:
        write_json(tmp_path / "a.json", {"classes": ["good", "h\udce9rbe"]})
    assert repr("h\udce9rbe") in str(refused.value)
    assert list(tmp_path.iterdir()) == []
    write_json(tmp_path / "a.json", ["é", "😀"])
    assert read_json(tmp_path / "a.json") == ["é", "😀"]


def test_every_name_that_a_file_may_have_can_be_written(tmp_path):
    path = tmp_path / ("a" * 254)
    write_text(path, "text")
    assert path.read_text() == "text"
    with pytest.raises(StorageError, match="its name is too long"):
        write_text(tmp_path / ("a" * 300), "text")
