from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from edgecr.core.errors import ExportRefused, RequestError, StorageError, UnsupportedModel
from edgecr.data.sets import MemorySet
from edgecr.data.views import ProofData
from edgecr.exporters import Artifact, exporters, load_target
from edgecr.exporters.onnx import write as onnx_write
from edgecr.exporters.onnx.exporter import OPSETS, OnnxExporter
from edgecr.exporters.stored_proof import PROOF
from edgecr.predictors import predictor_for
from edgecr.predictors.torch_predictor import TorchPredictor
from tests.exporters.tiny_subjects import LABELS, ThreeLayers, export, images, preprocessing, proof, subject_of, target


def masked(module: nn.Module, channels: int) -> nn.Module:
    """The first convolution's last channels zeroed, as a mask does it."""
    with torch.no_grad():
        for tensor in (module[0].weight, module[1].weight, module[1].bias, module[1].running_mean):
            tensor[-channels:] = 0
    return module


def test_manifest_describes_the_file(exported):
    _, artifact = exported
    again = Artifact.load(artifact.path)
    assert again == artifact
    assert artifact.size_bytes == artifact.path.stat().st_size
    assert artifact.labels == list(LABELS)
    assert artifact.input == {"name": "input", "dtype": "float32", "layout": "NCHW", "shape": [None, 3, 8, 8]}
    assert artifact.outputs == [{"name": "logits", "dtype": "float32", "shape": [None, 5]}]
    assert artifact.preprocessing == {
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.25, 0.3],
        "size": [8, 8],
        "embedded": False,
    }
    assert artifact.lineage["run"] == "test"
    assert artifact.lineage["made_with"]["opset"] == 20


def test_parity_is_recorded_and_small(exported):
    _, artifact = exported
    assert artifact.parity["agreement"] == 1.0
    assert artifact.parity["max_abs"] < 1e-5
    assert artifact.parity["batches"] == [1, 3, 7]


@pytest.mark.parametrize("batch", [1, 5])
def test_any_batch_size_gives_the_answers_of_torch(exported, batch):
    subject, artifact = exported
    some = images(batch)
    expected = TorchPredictor(subject.module, preprocessing()).predict(some)["logits"]
    np.testing.assert_allclose(predictor_for(artifact, threads=1).predict(some)["logits"], expected, atol=1e-5)


def test_the_file_holds_no_notes_and_no_paths(exported):
    _, artifact = exported
    model = onnx.load(artifact.path)
    graph = model.graph
    assert all(entry.key.startswith("edgecr.") for entry in model.metadata_props)
    assert not model.doc_string
    for item in [
        graph,
        *graph.node,
        *graph.initializer,
        *graph.value_info,
        *graph.input,
        *graph.output,
    ]:
        assert not item.metadata_props
        assert not item.doc_string
    printable = re.findall(rb"[ -~]{8,}", artifact.path.read_bytes())  # shorter ones occur among weights by chance
    assert not [text for text in printable if b".py" in text or text.count(b"/") > 1]


def test_two_exports_are_byte_identical(exported, tmp_path):
    subject, artifact = exported
    assert export(subject, tmp_path).path.read_bytes() == artifact.path.read_bytes()


def test_nothing_is_printed_and_the_module_keeps_its_mode(tmp_path, capfd):
    subject = subject_of(ThreeLayers().train())
    export(subject, tmp_path)
    assert capfd.readouterr() == ("", "")
    assert subject.module.training
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.manifest.json", "model.onnx", PROOF]


def test_embedded_preprocessing_gives_the_same_answers(exported, tmp_path):
    subject, artifact = exported
    embedded = export(subject, tmp_path, embed_preprocessing=True)
    assert embedded.input == {"name": "input", "dtype": "uint8", "layout": "NHWC", "shape": [None, 8, 8, 3]}
    outside, inside = (predictor_for(each).predict(images(9))["logits"] for each in (artifact, embedded))
    np.testing.assert_allclose(inside, outside, atol=1e-6)


def test_a_fixed_batch_is_filled_up(exported, tmp_path):
    subject, artifact = exported
    fixed = export(subject, tmp_path, dynamic_batch=False)
    assert fixed.input["shape"] == [1, 3, 8, 8]
    np.testing.assert_allclose(
        predictor_for(fixed).predict(images(3))["logits"],
        predictor_for(artifact).predict(images(3))["logits"],
        atol=1e-6,
    )


@pytest.mark.parametrize("opset", [12, 24])
def test_an_opset_out_of_range_is_refused_before_any_work(tmp_path, opset):
    with pytest.raises(RequestError, match=f"opset {opset}.*{OPSETS[0]} to {OPSETS[-1]}"):
        export(subject_of(ThreeLayers()), tmp_path / "out", opset=opset)
    assert not (tmp_path / "out").exists()


def test_an_opset_that_torch_replaces_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_write, "LOWEST", 17)
    with pytest.raises(ExportRefused, match=r"Opset 17 was asked for.*wrote opset 18"):
        export(subject_of(ThreeLayers()), tmp_path, opset=17)
    assert [path.name for path in tmp_path.iterdir()] == ["refused.json"]


def test_an_export_without_images_is_refused(tmp_path):
    with pytest.raises(RequestError, match="at least one real image"):
        OnnxExporter().export(subject_of(ThreeLayers()), target(), proof(0), tmp_path, {})


def test_a_file_with_other_weights_is_refused_and_explained(exported, tmp_path, monkeypatch):
    subject, _ = exported
    first = export(subject, tmp_path)
    written = onnx_write.write

    def tampered(*arguments, **options):
        facts = written(*arguments, **options)
        file = arguments[-1]
        model = onnx.load(file)
        weight = next(t for t in model.graph.initializer if t.name == "7.weight")
        weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * 1.1, weight.name))
        file.write_bytes(model.SerializeToString())
        return facts

    monkeypatch.setattr(onnx_write, "write", tampered)
    with pytest.raises(ExportRefused, match=r"parity: outputs differ by up to .* \(allowed 0.001\)"):
        export(subject, tmp_path)
    assert not first.path.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx.rejected", "refused.json"]
    refused = json.loads((tmp_path / "refused.json").read_text())
    assert "parity" in refused["reason"]
    assert "the first layer that differs is 7, after 2 that agree" in refused["reason"]
    assert (refused["divergence"]["layer"], refused["divergence"]["compared"]) == ("7", 3)
    assert refused["parity"]["max_abs"] > 1e-3
    wide = {"max_abs": 1e3, "max_rel": 1.0, "agreement": 0.0}  # the target's own limits count
    assert export(subject, tmp_path, parity=wide).parity["max_abs"] == refused["parity"]["max_abs"]


def test_surgery_that_was_only_masked_is_refused(tmp_path):
    subject = subject_of(masked(ThreeLayers(), 4), cut=True, promised=lambda: ThreeLayers(4))
    with pytest.raises(ExportRefused, match="receipt: 19 channels in the file, 15 promised"):
        export(subject, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx.rejected", "refused.json"]
    assert json.loads((tmp_path / "refused.json").read_text())["receipt"]["zero_channels"] == 4


def test_zeros_that_stay_in_a_cut_layer_are_refused(tmp_path):
    subject = subject_of(masked(ThreeLayers(6), 2), cut=True, promised=lambda: ThreeLayers(6))
    with pytest.raises(ExportRefused, match="2 channels of cut layers are still in the file as zeros"):
        export(subject, tmp_path)


def test_masks_without_a_claim_are_a_warning(tmp_path):
    artifact = export(subject_of(masked(ThreeLayers(), 4)), tmp_path)
    assert artifact.receipt["zero_channels"] == 4
    assert "4 channels hold only zeros" in artifact.receipt["warnings"][0]


def test_a_real_cut_passes_and_the_receipt_says_what_went(tmp_path):
    artifact = export(subject_of(ThreeLayers(4), cut=True, promised=lambda: ThreeLayers(4)), tmp_path)
    receipt = artifact.receipt
    assert receipt["baseline"]["weights"] == 3 * 8 * 9 + 8 * 6 * 9 + 30
    assert receipt["file"]["weights"] == receipt["promised"]["weights"] == 3 * 4 * 9 + 4 * 6 * 9 + 30
    assert receipt["file"]["macs"] == 64 * 3 * 4 * 9 + 16 * 4 * 6 * 9 + 30
    assert receipt["removed"]["channels"] == pytest.approx(4 / 19)
    assert receipt["warnings"] == []
    assert [layer["file"] for layer in receipt["layers"]] == [[4, 3, 3, 3], [6, 4, 3, 3], [5, 6]]


def test_two_layers_with_equal_weights_are_exported(tmp_path):
    def twins():
        module = ThreeLayers()
        module.insert(3, nn.Conv2d(8, 8, 1, bias=False))
        module.insert(4, nn.Conv2d(8, 8, 1, bias=False))
        return module

    module = twins()
    module[4].load_state_dict(module[3].state_dict())
    artifact = export(subject_of(module, untouched=twins), tmp_path)
    stored = [tensor for tensor in onnx.load(artifact.path).graph.initializer if list(tensor.dims) == [8, 8, 1, 1]]
    assert artifact.receipt["merged_weights"] == 64 * (2 - len(stored))
    assert artifact.receipt["removed"]["weights"] == 0
    assert [layer["file"] for layer in artifact.receipt["layers"]].count([8, 8, 1, 1]) == 2


def test_an_export_looks_at_all_classes_of_a_sorted_list(tmp_path, monkeypatch):
    import edgecr.exporters.proving as module

    seen = []
    compare = module.compare

    def noted(reference, candidate, some, allowed, **options):
        seen.extend(some[:, 0, 0, 0])
        return compare(reference, candidate, some, allowed, **options)

    monkeypatch.setattr(module, "compare", noted)
    labels = np.repeat(np.arange(5), 100)
    pixels = np.broadcast_to(labels.astype(np.uint8)[:, None, None, None], (500, 8, 8, 3))
    sorted_by_class = MemorySet(pixels, labels)
    data = ProofData(LABELS, preprocessing(), "", sorted_by_class, sorted_by_class)
    exporters.get("onnx")().export(subject_of(ThreeLayers()), target(), data, tmp_path, {})
    assert sorted(np.bincount(seen)) == [12, 13, 13, 13, 13]


def test_a_model_that_torch_cannot_trace_is_named(tmp_path, capfd):
    class Branches(ThreeLayers):
        def forward(self, x):
            return super().forward(x) if x.sum() > 0 else super().forward(-x)

    with pytest.raises(UnsupportedModel, match=r"torch cannot export this model to ONNX: .*data-dependent"):
        export(subject_of(Branches()), tmp_path)
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("owner", "failing"), [(Path, "write_bytes"), (os, "replace")])
def test_a_full_disk_leaves_nothing_half_written(exported, tmp_path, monkeypatch, owner, failing):
    subject, _ = exported

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(owner, failing, full)
    with pytest.raises(StorageError, match="the disk is full"):
        export(subject, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["onnx", "onnx-embedded"])
def test_shipped_targets_can_be_written(name):
    declared = load_target(name)
    assert declared.name == name
    assert declared.opset in OPSETS
    assert declared.embed_preprocessing == (name == "onnx-embedded")
