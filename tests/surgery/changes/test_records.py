"""Records of surgery: those of the first edition are read as cuts, and new ones bear a tag."""

from __future__ import annotations

import json

import pytest
import torch

from edgecr.core.errors import FileProblem
from edgecr.models import architecture
from edgecr.subject import Subject
from edgecr.surgery.changes import ChannelCut, changes, read_change
from edgecr.surgery.changes.cut import GroupCut, TensorCut
from tests.exporters.tiny_subjects import ThreeLayers

FIRST = """{
  "schema": 1,
  "architecture": {"arch": "tests.surgery.changes.test_records:Small"},
  "classes": 5,
  "input_shape": [3, 8, 8],
  "surgery": [
    {
      "tensors": [
        {"tensor": "0.weight", "dim": 0, "removed": "0-2,5"},
        {"tensor": "1.weight", "dim": 0, "removed": "0-2,5"},
        {"tensor": "1.bias", "dim": 0, "removed": "0-2,5"},
        {"tensor": "1.running_mean", "dim": 0, "removed": "0-2,5"},
        {"tensor": "1.running_var", "dim": 0, "removed": "0-2,5"},
        {"tensor": "3.weight", "dim": 1, "removed": "0-2,5", "role": "in"}
      ],
      "groups": [{"group": "0", "width": 8, "removed": 4}],
      "why": "l2, global"
    }
  ]
}
"""
"""A ``subject.json`` as the first edition wrote it."""


class Small(ThreeLayers):
    """The tiny network as an architecture of the user's own."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()


@pytest.fixture
def folder(tmp_path):
    """A saved subject whose record is the one above."""
    made = Subject.create(architecture({"arch": f"{__name__}:Small"}), 5, (8, 8), seed=0, allow_code=True).with_changes(
        *map(read_change, json.loads(FIRST)["surgery"])
    )
    made.with_module(made.skeleton(allow_code=True)).save(tmp_path / "subject")
    (tmp_path / "subject/subject.json").write_text(FIRST)
    return tmp_path / "subject"


def test_records_without_a_tag_are_cuts(folder):
    subject = Subject.load(folder, allow_code=True)
    [cut] = subject.surgery
    assert isinstance(cut, ChannelCut)
    assert cut.tensors[-1] == TensorCut(tensor="3.weight", dim=1, removed="0-2,5", role="in")
    assert cut.groups == (GroupCut(group="0", width=8, removed=4),)
    assert subject.module.get_parameter("3.weight").shape == (6, 4, 3, 3)
    assert cut.promise(subject.module).channels == {"0.weight": 4}


def test_a_subject_of_the_first_edition_is_saved_with_tags(folder, tmp_path):
    first = Subject.load(folder, allow_code=True)
    first.save(tmp_path / "again")
    record = json.loads((tmp_path / "again/subject.json").read_text())
    assert record["schema"] == 2
    assert record["surgery"] == [{"change": "cut"} | json.loads(FIRST)["surgery"][0]]
    again = Subject.load(tmp_path / "again", allow_code=True)
    assert again.surgery == first.surgery
    one, other = (each.module.state_dict() for each in (first, again))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda record: record.update(schema=3), r"another version of EdgeCR \(schema 3\)"),
        (lambda record: record["surgery"][0].update(change="paint"), "Unknown change 'paint'. Known: binary, "),
        (lambda record: record["surgery"][0].update(change=["cut"]), "Unknown change"),
        (lambda record: record["surgery"][0].update(change="cut", zeros=3), r"surgery\.0: zeros"),
        (lambda record: record["surgery"][0]["tensors"][0].update(dim="0"), r"surgery\.0: tensors\.0\.dim"),
        (lambda record: record["surgery"][0]["tensors"][0].update(tensor="9.weight"), "cannot undergo"),
        (lambda record: record.update(surgery=[3]), "does not describe a model"),
    ],
)
def test_a_damaged_record_is_named(folder, change, problem):
    record = json.loads(FIRST)
    change(record)
    (folder / "subject.json").write_text(json.dumps(record))
    with pytest.raises(FileProblem, match=problem):
        Subject.load(folder, allow_code=True)


def test_every_kind_bears_the_tag_that_it_is_registered_under():
    assert [changes.get(name).tag for name in changes] == changes.names()
