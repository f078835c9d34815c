"""Checkpoints: what is damaged or foreign is passed over, and the older generation serves."""

import json

import pytest
import torch

from edgecr.core.progress import Monitor
from edgecr.training.checkpoint import Checkpoint, Checkpoints


@pytest.mark.parametrize("change", [{"facts": {}}, {"facts": {"epoch": 9}}, {"facts": None}, {"facts_sha256": "0"}])
def test_facts_that_were_changed_are_not_used(tmp_path, change):
    saved = Checkpoints(tmp_path, "me", Monitor())
    for epoch in (1, 2):
        saved.save(Checkpoint({"weight": torch.full((2,), float(epoch))}, {"epoch": epoch}))
    newest = max(tmp_path.glob("*/state.json"), key=lambda file: json.loads(file.read_text())["serial"])
    newest.write_text(json.dumps(json.loads(newest.read_text()) | change))
    found = Checkpoints(tmp_path, "me", Monitor()).load()
    assert found.facts == {"epoch": 1}
    assert found.tensors["weight"].tolist() == [1.0, 1.0]
