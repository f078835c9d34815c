"""A change from outside: zeroed weights, recorded, replayed, exported and held to their promise."""

from __future__ import annotations

import json
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from edgecr.core.errors import ExportRefused, FileProblem
from edgecr.models import architecture
from edgecr.stages.export import _in_words as counted_in_words
from edgecr.subject import Subject
from edgecr.surgery.changes import Change, ChannelCut, Figure, Promise, changes, figures, register
from edgecr.surgery.changes.cut import as_positions
from edgecr.surgery.planning.plan import Plan
from edgecr.surgery.tracing.graph import trace_channels
from tests.exporters.tiny_subjects import LABELS, ThreeLayers, export, randomised

TENSOR = "0.weight"


class Small(ThreeLayers):
    """The tiny network as an architecture of the user's own."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()


class PairsOfZeros(Figure):
    """Two zeros beside one another."""

    words: ClassVar[str] = "pairs of zeros"

    def count(self, weights: np.ndarray) -> int:
        return int((weights.reshape(-1, 2) == 0).all(axis=1).sum())


class Zeroed(Change):
    """Weights of one tensor that are zero."""

    tag: ClassVar[str] = "zeroed"
    tensor: str
    places: str
    """Positions in the flattened tensor."""
    pairs: int = 0

    def replay(self, module: nn.Module) -> None:
        with torch.no_grad():
            module.get_parameter(self.tensor).view(-1)[torch.tensor(as_positions(self.places))] = 0

    def promise(self, module: nn.Module) -> Promise:
        pairs = {"pairs": {self.tensor: self.pairs}} if self.pairs else {}
        return Promise(figures={"zeros": {self.tensor: len(as_positions(self.places))}} | pairs)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """The toys are known to one test at a time."""
    for registry in (changes, figures):
        monkeypatch.setattr(registry, "_items", dict(registry._items))
    figures.register("pairs")(PairsOfZeros)
    return register(Zeroed)


@pytest.fixture
def subject() -> Subject:
    declared = architecture({"arch": f"{__name__}:Small"})
    made = Subject.create(declared, len(LABELS), (8, 8), seed=0, allow_code=True)
    randomised(made.module)
    return made


def undergone(subject: Subject, *made: Change) -> Subject:
    for change in made:
        change.replay(subject.module)
    return subject.with_changes(*made)


def cut_of(subject: Subject, *, each: int = 2) -> ChannelCut:
    """Every group loses one channel of ``each``."""
    graph = trace_channels(subject.module, subject.input_shape)
    gone = tuple(np.arange(0, group.width - 1, each) for group in graph.groups)
    kept = np.array([group.width - len(ids) for group, ids in zip(graph.groups, gone)])
    return Plan(graph, kept, gone).cut("test")


def reloaded(subject: Subject, folder) -> Subject:
    subject.save(folder)
    return Subject.load(folder, allow_code=True)


def promises(subject: Subject, folder) -> dict[str, dict[str, int]]:
    return export(subject, folder).receipt["promises"]


def test_a_change_is_kept_with_its_tag_replayed_and_its_promise_found_in_the_file(subject, tmp_path):
    zeroed = Zeroed(tensor=TENSOR, places="0-9")
    again = reloaded(undergone(subject, zeroed), tmp_path / "subject")
    assert json.loads((tmp_path / "subject/subject.json").read_text())["surgery"] == [
        {"change": "zeroed", "tensor": TENSOR, "places": "0-9"}
    ]
    assert again.surgery == (zeroed,)
    assert counted_in_words(again).endswith(", zeroed 1 time")
    assert not again.skeleton(allow_code=True).get_parameter(TENSOR).view(-1)[:10].any()
    assert promises(again, tmp_path / "export") == {"zero weights": {"promised": 10, "file": 10}}


def test_a_cut_and_then_zeros_are_accepted_and_both_promises_told(subject, tmp_path):
    """Whole channels of a cut layer are zero: promised, so they are not `masked, not removed`."""
    undergone_once = undergone(subject, cut_of(subject))
    weights = undergone_once.module.get_parameter(TENSOR)
    row = weights[0].numel()
    both = undergone(undergone_once, Zeroed(tensor=TENSOR, places=f"0-{row - 1}"))
    receipt = export(reloaded(both, tmp_path / "subject"), tmp_path / "export").receipt
    assert receipt["file"]["channels"] == receipt["promised"]["channels"] < receipt["baseline"]["channels"]
    assert receipt["promises"]["zero weights"] == {"promised": row, "file": row}
    assert receipt["zero_channels"] == 1


def test_zero_channels_of_a_cut_layer_beyond_the_promise_are_refused(subject, tmp_path):
    cut = undergone(subject, cut_of(subject))
    row = cut.module.get_parameter(TENSOR)[0].numel()
    both = undergone(cut, Zeroed(tensor=TENSOR, places=f"0-{row - 1}"))
    with torch.no_grad():
        both.module.get_parameter(TENSOR)[1] = 0
    with pytest.raises(ExportRefused, match="1 channels of cut layers are still in the file as zeros"):
        export(both, tmp_path)


def test_a_file_that_lacks_promised_zeros_is_refused(subject, tmp_path):
    zeroed = undergone(subject, Zeroed(tensor=TENSOR, places="0-9"))
    with torch.no_grad():
        zeroed.module.get_parameter(TENSOR).view(-1)[4:6] = 1.0
    with pytest.raises(ExportRefused, match=rf"receipt: 8 zero weights of {TENSOR} in the file, 10 promised"):
        export(zeroed, tmp_path)
    assert json.loads((tmp_path / "refused.json").read_text())["receipt"]["promises"] == {
        "zero weights": {"promised": 10, "file": 8}
    }


def test_promises_of_two_changes_are_summed(subject, tmp_path):
    zeroed = undergone(subject, *(Zeroed(tensor=TENSOR, places=places) for places in ("0-9", "20-24")))
    assert promises(zeroed, tmp_path) == {"zero weights": {"promised": 15, "file": 15}}
    with torch.no_grad():
        zeroed.module.get_parameter(TENSOR).view(-1)[20] = 1.0
    with pytest.raises(ExportRefused, match="14 zero weights"):
        export(zeroed, tmp_path)


@pytest.mark.parametrize("places", ["0-9", "0-215"])
def test_a_later_cut_takes_its_part_of_the_zeros_along(subject, tmp_path, places):
    """As many zeros are promised as are left if every weight that went was one of them."""
    zeroed = undergone(subject, Zeroed(tensor=TENSOR, places=places))
    size = zeroed.module.get_parameter(TENSOR).numel()
    cut = undergone(zeroed, cut_of(zeroed, each=3))
    gone, zeros = size - cut.module.get_parameter(TENSOR).numel(), len(as_positions(places))
    assert gone > 0
    found = promises(cut, tmp_path)
    assert found["zero weights"]["promised"] == max(0, zeros - gone)
    assert found["zero weights"]["file"] >= found["zero weights"]["promised"]


def test_a_change_may_promise_a_figure_of_its_own(subject, tmp_path):
    zeroed = undergone(subject, Zeroed(tensor=TENSOR, places="0-3,6-7", pairs=3))
    assert promises(zeroed, tmp_path)["pairs of zeros"] == {"promised": 3, "file": 3}
    broken = subject.with_changes(Zeroed(tensor=TENSOR, places="0-3,6-7", pairs=4))
    with pytest.raises(ExportRefused, match=r"3 pairs of zeros of .* in the file, 4 promised"):
        export(broken, tmp_path)


def test_a_promise_about_what_is_no_layer_of_the_file_is_refused(subject, tmp_path):
    zeroed = undergone(subject, Zeroed(tensor="1.weight", places="0"))
    with pytest.raises(ExportRefused, match=r"promised in 1\.weight, which is no layer of the file"):
        export(zeroed, tmp_path)


def test_a_record_of_an_unknown_change_is_refused_with_the_known_ones(subject, tmp_path, monkeypatch):
    undergone(subject, Zeroed(tensor=TENSOR, places="0")).save(tmp_path)
    monkeypatch.delitem(changes._items, "zeroed")
    with pytest.raises(FileProblem, match=r"subject.json .*Unknown change 'zeroed'. Known: binary, "):
        Subject.load(tmp_path, allow_code=True)
