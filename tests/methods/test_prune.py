from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from edgecr.methods.base import Lab, methods
from edgecr.methods.prune import Prune
from edgecr.models import architecture
from edgecr.progress import Monitor
from edgecr.subject import Subject
from edgecr.surgery.counters import count


class Ear(Monitor):
    def __init__(self) -> None:
        self.heard: list[str] = []
        self.events: dict[str, Any] = {}

    def say(self, text: str) -> None:
        self.heard.append(text)

    def event(self, kind: str, **facts: Any) -> None:
        self.events[kind] = facts


@pytest.fixture
def subject() -> Subject:
    return Subject.create(architecture({"arch": "resnet20", "width": 0.5}), 10, (32, 32), seed=0)


def lab(ear: Monitor, folder: Path) -> Lab:
    return Lab(None, 0, folder, monitor=ear)  # type: ignore[arg-type]


def test_the_result_is_smaller_rebuilds_and_says_what_was_reached(subject: Subject, tmp_path: Path) -> None:
    ear, before = Ear(), count(subject.module, subject.input_shape)
    pruned = Prune.parse({"budget": {"macs": 0.5}}).apply(subject, lab(ear, tmp_path))
    after = count(pruned.module, pruned.input_shape)
    assert after.macs <= 0.5 * before.macs
    assert f"{after.macs:,}" in ear.heard[0]
    assert ear.events["pruned"]["macs"] == [before.macs, after.macs]
    pruned.save(tmp_path / "pruned")
    again = Subject.load(tmp_path / "pruned")
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again.module(image), pruned.module.eval()(image))


def test_pruning_twice_keeps_both_records(subject: Subject, tmp_path: Path) -> None:
    method = Prune.parse({"sparsity": 0.3, "scope": "layer", "score": "l1", "align": False})
    room = lab(Ear(), tmp_path)
    twice = method.apply(method.apply(subject, room), room)
    assert len(twice.surgery) == 2
    shapes = [tuple(tensor.shape) for tensor in twice.skeleton().state_dict().values()]
    assert shapes == [tuple(tensor.shape) for tensor in twice.module.state_dict().values()]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sparsity": 0.5, "budget": {"params": 0.5}},
        {"sparsity": 1.0},
        {"sparsity": -0.1},
        {"budget": {}},
        {"budget": {"params": 1.5}},
        {"budget": {"macs": 0}},
        {"budget": {"latency": 3}},
        {"sparsity": 0.5, "align": 0},
        {"sparsity": 0.5, "align": "on"},
        {"sparsity": 0.5, "min_channels": 0},
        {"sparsity": 0.5, "what": "weights"},
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Prune.parse(options)


def test_it_is_registered_and_starts_compression() -> None:
    assert methods.get("prune") is Prune
    assert Prune.compresses
