"""Real architectures, really cut: what the receipt reads from the file is what the surgery recorded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgecr.core.errors import ExportRefused
from edgecr.exporters import exporters
from edgecr.models import architecture
from edgecr.subject import Subject
from edgecr.surgery.changes.cut import mask, remove
from edgecr.surgery.counters import count
from edgecr.surgery.planning.plan import Plan
from edgecr.surgery.tracing.graph import trace_channels
from tests.exporters.tiny_subjects import LABELS, proof, randomised, target
from tests.exporters.tiny_subjects import subject_of as tiny_subject

SIZE = 32


def subject_of(name: str, **options: object) -> Subject:
    subject = Subject.create(architecture({"arch": name, **options}), len(LABELS), (SIZE, SIZE), seed=0)
    randomised(subject.module)
    return subject


def half_of(subject: Subject):
    """Every group loses each second channel."""
    graph = trace_channels(subject.module, subject.input_shape)
    removed = tuple(np.arange(0, group.width - group.width % 2, 2) for group in graph.groups)
    kept = np.array([group.width - len(gone) for group, gone in zip(graph.groups, removed)])
    return Plan(graph, kept, removed).cut("test")


def export(subject: Subject, folder, size: int = SIZE):
    return exporters.get("onnx")().export(subject, target(), proof(5, size), folder, {})


@pytest.mark.slow
def test_a_cut_model_keeps_its_promise_in_the_file_and_after_saving(tmp_path):
    subject = subject_of("resnet20")
    before = count(subject.module, subject.input_shape)
    cut = half_of(subject)
    remove(subject.module, cut)
    subject = subject.with_changes(cut)
    artifact = export(subject, tmp_path / "first")
    after = count(subject.module, subject.input_shape)
    receipt = artifact.receipt
    assert receipt["file"]["macs"] == after.macs < before.macs
    assert receipt["baseline"]["macs"] == before.macs
    assert [tuple(layer["file"]) for layer in receipt["layers"]] == [one.weight_shape for one in after.layers]
    assert receipt["removed"]["channels"] > 0.4
    assert artifact.parity["max_rel"] < 1e-5

    subject.save(tmp_path / "subject")
    again = export(Subject.load(tmp_path / "subject"), tmp_path / "second")
    assert again.path.read_bytes() == artifact.path.read_bytes()


@pytest.mark.parametrize(("arch", "options"), [("wide_resnet18_2_preact", {"blocks": [1] * 4}), ("conv4", {})])
def test_networks_without_offsets_lose_half_and_stay_the_same_in_the_file(arch, options, tmp_path):
    subject = subject_of(arch, width=0.125, **options)
    cut = half_of(subject)
    remove(subject.module, cut)
    artifact = export(subject.with_changes(cut), tmp_path)
    assert artifact.receipt["file"]["macs"] == count(subject.module, subject.input_shape).macs
    assert artifact.receipt["removed"]["channels"] > 0.4
    assert artifact.parity["max_rel"] < 1e-5


class EveryLayer(nn.Module):
    """Depthwise, grouped, transposed and token-wise layers, a shared one, and normalisation in all places."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 6, 3, groups=3, bias=False), nn.ReLU())
        self.grouped = nn.Sequential(nn.Conv2d(6, 8, 3, groups=2), nn.BatchNorm2d(8), nn.ReLU())
        self.shared = nn.Conv2d(8, 8, 1)
        self.up = nn.Sequential(nn.ConvTranspose2d(8, 6, 2, stride=2, groups=2), nn.BatchNorm2d(6), nn.ReLU())
        self.tokens = nn.Linear(6, 4)
        self.head = nn.Linear(4, len(LABELS), bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.grouped(self.depthwise(x))
        x = self.up(self.shared(torch.relu(self.shared(x))))
        tokens = self.tokens(x.flatten(2).transpose(1, 2))
        scores = torch.softmax(tokens @ tokens.transpose(1, 2), dim=-1) @ tokens
        return self.head(scores.mean(1))


def test_every_kind_of_layer_is_read_back_from_the_file(tmp_path):
    artifact = export(tiny_subject(EveryLayer(), size=8, untouched=EveryLayer, promised=EveryLayer), tmp_path, 8)
    layers = artifact.receipt["layers"]
    assert [layer["file"] for layer in layers] == [
        [6, 1, 3, 3], [8, 3, 3, 3], [8, 8, 1, 1], [8, 8, 1, 1], [8, 3, 2, 2], [4, 6], [5, 4]]  # fmt: skip
    by_hand = 36 * 54 + 16 * 216 + 2 * 16 * 64 + 16 * 96 + 64 * 24 + 20
    assert artifact.receipt["file"]["macs"] == artifact.receipt["promised"]["macs"] == by_hand
    assert artifact.receipt["file"]["weights"] == 54 + 216 + 64 + 96 + 24 + 20


def test_recorded_surgery_that_was_only_masked_is_refused(tmp_path):
    subject = subject_of("resnet20")
    cut = half_of(subject)
    mask(subject.module, cut)
    with pytest.raises(ExportRefused, match=r"receipt: [\d,]+ channels in the file, [\d,]+ promised"):
        export(subject.with_changes(cut), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx.rejected", "refused.json"]


@pytest.mark.slow
def test_a_cut_mobilenet_runs_wholly_in_integers(tmp_path):
    subject = subject_of("torchvision:mobilenet_v2")
    cut = half_of(subject)
    remove(subject.module, cut)
    subject = subject.with_changes(cut)
    declared = target(precision="int8")
    artifact = exporters.get("onnx")().export(subject, declared, proof(8, SIZE, 32), tmp_path, {})
    assert artifact.receipt["integers"]["share"] == 1.0
    assert artifact.receipt["file"]["channels"] == artifact.receipt["promised"]["channels"]
    assert artifact.receipt["removed"]["channels"] > 0.4
    assert artifact.parity["cosine"] > 0.95
