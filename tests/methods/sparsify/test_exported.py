"""Zeros of a masking step, recounted from the exported file."""

import pytest

from edgecr.methods.sparsify import Sparsify
from edgecr.methods.train import Train
from edgecr.models import architecture
from edgecr.subject import Subject
from edgecr.surgery.promise import ZEROS
from tests.exporters.tiny_subjects import LABELS, export
from tests.workplace import context


def masked(folder, **keys):
    declared = architecture({"arch": "resnet20", "width": 0.5, "blocks": [1, 1, 1]})
    subject = Subject.create(declared, len(LABELS), (8, 8), 0)
    trained = Train.parse({"epochs": 1, "batch": 16, "precision": "fp32"}).apply(subject, context(folder / "train"))
    return Sparsify.parse(keys | {"repair": False}).apply(trained, context(folder))


@pytest.mark.parametrize("storage", ["plain", "compact"])
def test_the_file_has_exactly_the_zeros_that_were_promised(tmp_path, storage):
    subject = masked(tmp_path, sparsity=0.8)
    zeros = sum(int((p == 0).sum()) for n, p in subject.module.named_parameters() if n.endswith("weight"))
    assert subject.promise().total(ZEROS) == zeros
    told = export(subject, tmp_path / "file", storage=storage).receipt["promises"]
    assert told == {"zero weights": {"promised": zeros, "file": zeros}}


def test_the_file_has_the_blocks_that_were_promised(tmp_path):
    subject = masked(tmp_path, pattern="2:4", exclude=["conv1"])
    told = export(subject, tmp_path / "file").receipt["promises"]
    blocks = told["2:4 blocks"]
    assert blocks["file"] == blocks["promised"] == subject.promise().total("2:4 blocks") > 0
    assert told["zero weights"]["promised"] == told["zero weights"]["file"] == 2 * blocks["promised"]
