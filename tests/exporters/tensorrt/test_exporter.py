"""Every shipped TensorRT target from one pruned network: the file, its proof, its receipt and its build."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

from edgecr.core import builtin
from edgecr.core.errors import ExportRefused, RecipeError, RequestError, UnsupportedModel
from edgecr.exporters import Artifact, exporters, load_target, runtimes_of
from edgecr.exporters.tensorrt import exporter
from edgecr.exporters.tensorrt.versions import versions_of
from edgecr.exporters.verifying import verify
from edgecr.predictors import predictor_for
from edgecr.predictors.torch_predictor import TorchPredictor
from tests.exporters.tensorrt.conftest import SIZE, target
from tests.exporters.tiny_subjects import images, preprocessing, proof, subject_of

SHIPPED = [name for name in builtin.names("export") if name.startswith("tensorrt-") and "2to4" not in name]
OPSETS = {4: (13, 7), 5: (17, 8)}


def types(model) -> set[str]:
    return {onnx.TensorProto.DataType.Name(tensor.data_type) for tensor in model.graph.initializer if tensor.dims}


def test_there_is_a_target_for_each_jetpack_and_precision():
    assert {(load_target(name).jetpack, load_target(name).precision) for name in SHIPPED} == {
        (jetpack, precision) for jetpack in (4, 5, 6, 7) for precision in ("fp32", "fp16", "int8")
    }


@pytest.mark.parametrize("name", SHIPPED)
def test_a_pruned_network_is_written_proven_and_recounted(name, slim, export, tmp_path, capfd):
    declared = load_target(name)
    artifact = export(declared, tmp_path)
    assert capfd.readouterr() == ("", "")
    assert Artifact.within(tmp_path) == artifact
    assert list(artifact.hashes) == ["model.onnx", "build.json"]
    assert {check.status for check in verify(tmp_path).checks} == {"PASS"}
    assert artifact.receipt["removed"]["channels"] == pytest.approx(32 / 69)
    assert artifact.parity["agreement"] >= (0.9 if declared.precision == "int8" else 1.0)
    model = onnx.load(artifact.path)
    opset, ir_version = OPSETS.get(declared.jetpack, (20, model.ir_version))
    assert (model.opset_import[0].version, model.ir_version) == (opset, ir_version)
    operators = {node.op_type for node in model.graph.node}
    assert all(operators <= version.operators for version in declared.versions)
    typed = declared.jetpack >= 6
    assert ("FLOAT16" in types(model)) == (typed and declared.precision != "fp32")
    assert {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)} == {1}
    if declared.precision == "int8":
        assert {weight.dtype for weight in weights(model)} == {np.dtype(np.int8) if typed else np.dtype(np.float32)}
        assert set(artifact.receipt["integers"]["float_layers"]) == {"depth"}
        assert artifact.receipt["integers"]["kernels"] == "TensorRT"
    given = predictor_for(artifact, threads=1).predict(images(5, SIZE))["logits"]
    meant = TorchPredictor(slim.module, preprocessing(SIZE)).predict(images(5, SIZE))["logits"]
    np.testing.assert_allclose(given, meant, atol={"fp32": 1e-5, "fp16": 1e-2, "int8": 0.2}[declared.precision])


def weights(model) -> list[np.ndarray]:
    """The stored numbers behind the rounded weights of all layers."""
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    made = {name: node for node in model.graph.node for name in node.output}
    found = []
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm") and made.get(node.input[1]) is not None:
            name = node.input[1]
            while name in made:
                name = made[name].input[0]
            found.append(stored[name])
    return found


def test_a_layer_norm_stays_in_float32_among_float16_and_the_manifest_names_it(export, tmp_path):
    artifact = export(target(6, precision="fp16"), tmp_path)
    (kept,) = artifact.lineage["rounding"]["float32"]
    assert kept == "LayerNormalization adds up what float16 may not hold"
    model = onnx.load(artifact.path)
    (norm,) = (node for node in model.graph.node if node.op_type == "LayerNormalization")
    stored = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert {stored[name] for name in norm.input[1:]} == {onnx.TensorProto.FLOAT}


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_values_that_the_builder_would_turn_into_infinity_are_refused(precision, export, tmp_path, monkeypatch):
    monkeypatch.setattr("edgecr.exporters.onnx.half.LARGEST", 0.5)
    with pytest.raises(
        UnsupportedModel, match=r"JetPack 5 makes float16 by itself.*Conv .* with the weights of layer first\.0"
    ):
        export(target(5, precision=precision), tmp_path)


def flags(artifact, version):
    return json.loads((artifact.path.parent / "build.json").read_text())["versions"][version]["trtexec"]


def test_a_fixed_batch_has_no_range_of_shapes_and_raw_pixels_are_uint8(export, tmp_path):
    artifact = export(target(6, embed_preprocessing=True, batch={"min": 1, "opt": 1, "max": 1}), tmp_path)
    assert (artifact.input["dtype"], artifact.input["shape"]) == ("uint8", [1, SIZE, SIZE, 3])
    assert not [flag for flag in flags(artifact, "10.3") if "Shapes" in flag]


def test_a_range_of_batches_is_one_of_shapes(export, tmp_path):
    artifact = export(target(5, batch={"min": 2, "opt": 4, "max": 8}), tmp_path)
    shapes = [flag for flag in flags(artifact, "8.5") if "Shapes" in flag]
    assert shapes == [f"--{word}Shapes=input:{n}x3x16x16" for word, n in (("min", 2), ("opt", 4), ("max", 8))]


def test_a_file_that_the_documents_exclude_is_not_kept(export, tmp_path, monkeypatch):
    lacking = versions_of(6)[0].operators - {"Relu"}
    (version,) = versions_of(6)
    monkeypatch.setattr(
        "edgecr.exporters.tensorrt.declaration.versions_of",
        lambda _: (type(version)(**(vars(version) | {"operators": lacking})),),
    )
    with pytest.raises(ExportRefused, match=r"TensorRT would not build the file .*Relu .* \(TensorRT 10\.3\)"):
        export(target(6), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["refused.json"]


def test_sparsity_without_wide_layers_is_refused(export, tmp_path):
    with pytest.raises(ExportRefused, match="no ungrouped layer has 256 channels on both sides"):
        export(load_target("tensorrt-jetpack6-fp16-2to4"), tmp_path)


def test_layers_with_the_pattern_are_recounted_from_the_file_and_told_to_the_board(tmp_path):
    def wide():
        return nn.Sequential(
            nn.Conv2d(3, 256, 3, 2), nn.ReLU(), nn.Conv2d(256, 256, 1), nn.Flatten(), nn.Linear(2304, 5)
        )

    torch.manual_seed(0)
    module = wide()
    module[2].weight.data[:, ::2] = 0
    declared = load_target("tensorrt-jetpack6-fp16-2to4")
    given = exporters.get("tensorrt")().export(
        subject_of(module, untouched=wide), declared, proof(3, calibration=3), tmp_path, {}
    )
    assert json.loads((tmp_path / "build.json").read_text())["sparse_layers"] == ["2"]
    assert "--sparsity=enable" in flags(given, "10.3")


def test_integers_among_float16_are_computed_as_onnx_itself_does(export, tmp_path):
    artifact = export(target(6, precision="int8", quantise={"calibrator": "minmax"}), tmp_path)
    some = images(2, SIZE)
    given = predictor_for(artifact, threads=1).predict(some)["logits"]
    meant = ReferenceEvaluator(str(artifact.path)).run(None, {"input": preprocessing(SIZE).apply(some)})[0]
    np.testing.assert_allclose(given, meant, atol=2e-3)


def test_no_engine_runs_here_and_nobody_pretends_so(export, tmp_path):
    artifact = export(target(6), tmp_path)
    assert runtimes_of("tensorrt") == ("tensorrt",)
    with pytest.raises(RequestError, match="cannot be run in the runtime 'tensorrt' on this machine"):
        predictor_for(artifact, runtime="tensorrt")
    told = json.loads((tmp_path / "build.json").read_text())
    assert "No TensorRT has run" in told["proven"]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"jetpack": 5, "embed_preprocessing": True}, "embed_preprocessing needs uint8 inputs"),
        ({"jetpack": 4, "sparsity": True}, "sparsity needs an Ampere processor"),
        ({"quantise": {}}, "quantise belongs to precision: int8, but precision is fp32"),
        ({"batch": {"min": 4, "opt": 2, "max": 8}}, "min <= opt <= max is required, but they are 4, 2, 8"),
        ({"jetpack": 3}, "Input should be 4, 5, 6 or 7"),
    ],
)
def test_options_that_contradict_one_another_are_refused_early(options, why):
    with pytest.raises(ValueError, match=why):
        target(**options)


def test_a_mistake_in_a_file_is_told_with_its_line(tmp_path):
    (tmp_path / "t.yaml").write_text("name: t\npurpose: p\nformat: tensorrt\njetpack: 6\nopset: 17\n")
    with pytest.raises(RecipeError, match=r"t\.yaml:5: opset: unknown key"):
        load_target(str(tmp_path / "t.yaml"))


def test_the_exporter_is_the_one_of_its_format():
    assert exporters.get("tensorrt") is exporter.TensorRtExporter
