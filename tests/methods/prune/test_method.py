from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from edgecr.core.progress import Monitor
from edgecr.methods.base import methods
from edgecr.methods.prune.method import Prune
from edgecr.models import architecture
from edgecr.subject import Subject
from edgecr.surgery.counters import count
from edgecr.training.context import StepContext
from tests import workplace


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


def context(ear: Monitor, folder: Path) -> StepContext:
    return workplace.context(folder, seed=0, monitor=ear)


def test_the_result_is_smaller_rebuilds_and_says_what_was_reached(subject: Subject, tmp_path: Path) -> None:
    ear, before = Ear(), count(subject.module, subject.input_shape)
    pruned = Prune.parse({"budget": {"macs": 0.5}}).apply(subject, context(ear, tmp_path))
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
    room = context(Ear(), tmp_path)
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
        {"sparsity": 0.5, "strict": "yes"},
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Prune.parse(options)


@pytest.mark.parametrize(
    ("options", "vain"),
    [
        *(
            ({"sparsity": 0.5, "normalise": True, "score": score}, "normalise does nothing")
            for score in ("taylor", "taylor_bn", "taylor_gate", "taylor_in", "taylor_joint", "bn", "pfp", "random")
        ),
        ({"sparsity": 0.5, "latency_batch": 4}, "latency_batch does nothing"),
        ({"budget": {"params": 0.5}, "latency_batch": 4}, "latency_batch does nothing"),
        ({"budget": {"params": 0.5}, "device": "cpu", "align": 8}, "device does nothing"),
        ({"sparsity": 0.5, "device": "cpu", "align": "off"}, "device does nothing"),
        ({"sparsity": 0.5, "target": "onnx-int8", "align": "off"}, "target does nothing"),
    ],
)
def test_options_that_do_nothing_together_are_refused(options: dict[str, Any], vain: str) -> None:
    with pytest.raises(ValidationError, match=vain):
        Prune.parse(options)


@pytest.mark.parametrize(
    "options",
    [
        *({"sparsity": 0.5, "normalise": True, "score": score} for score in ("l1", "l1_in", "l2", "ft")),
        {"budget": {"latency": 0.5}, "latency_batch": 4, "device": "cpu", "align": "off"},
        {"sparsity": 0.5, "device": "cpu"},
        {"budget": {"latency": 0.5}, "target": "onnx-int8", "align": "off"},
        {"sparsity": 0.5, "target": "tensorrt-jetpack6-int8"},
    ],
)
def test_the_same_options_are_taken_where_they_count(options: dict[str, Any]) -> None:
    Prune.parse(options)


def test_a_recipe_brings_device_and_batch_only_where_they_count() -> None:
    measure = {"measure": {"devices": ["pi"], "batch": [4]}}
    for options in ({"sparsity": 0.5, "align": "off"}, {"sparsity": 0.5}, {"budget": {"latency": 0.5}, "align": 8}):
        Prune.parse(Prune.resolve(options, measure))


def test_it_is_registered_and_starts_compression() -> None:
    assert methods.get("prune") is Prune
    assert Prune.compresses
