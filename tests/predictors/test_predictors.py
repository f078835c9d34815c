from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgecr.core.errors import FileProblem, RequestError, UnsupportedModel
from edgecr.data.base import Preprocessing
from edgecr.predictors import predictor_for
from edgecr.predictors.onnx_file import describe_onnx, read_onnx
from edgecr.predictors.onnx_predictor import OnnxPredictor
from edgecr.predictors.onnx_weights import weights_beside
from edgecr.predictors.torch_predictor import TorchPredictor
from edgecr.tasks import CLASSIFICATION

PREPROCESSING = Preprocessing((0.5, 0.4, 0.3), (0.2, 0.25, 0.3), (4, 4))


def pooled(path, batch="n", opset=20, ir_version=9):
    """The mean colour of an image, as an ONNX file."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["input"], ["p"]),
        helper.make_node("Flatten", ["p"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, 3, 4, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 3])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version), path)
    return path


def images(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)


def means(of: np.ndarray) -> np.ndarray:
    return PREPROCESSING.apply(of).mean(axis=(2, 3))


class Mean(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(x).mean((2, 3))


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("portion", [2, 256])
def test_torch_and_onnx_give_the_same_for_any_batch(tmp_path, count, portion):
    some = images(count)
    onnx_one = OnnxPredictor(pooled(tmp_path / "m.onnx"), PREPROCESSING, threads=1, portion=portion)
    np.testing.assert_allclose(onnx_one.predict(some)["logits"], means(some), atol=1e-5)
    np.testing.assert_allclose(
        TorchPredictor(Mean(), PREPROCESSING, portion=portion).predict(some)["logits"], means(some), atol=1e-5
    )


def test_torch_keeps_the_modules_mode_and_is_not_moved_by_later_training():
    module = nn.Sequential(nn.Flatten(), nn.Linear(48, 2)).train()
    predictor = TorchPredictor(module, PREPROCESSING)
    before = predictor.predict(images(2))["logits"]
    nn.init.zeros_(module[1].weight)
    assert module.training
    np.testing.assert_array_equal(predictor.predict(images(2))["logits"], before)


def test_a_fixed_batch_is_split_and_filled(tmp_path):
    predictor = OnnxPredictor(pooled(tmp_path / "m.onnx", batch=2), PREPROCESSING, threads=1)
    for count in (1, 2, 5):
        answers = predictor.predict(images(count))["logits"]
        np.testing.assert_allclose(answers, means(images(count)), atol=1e-5)


def test_every_output_with_a_row_for_each_image_keeps_its_name(tmp_path):
    nodes = [
        helper.make_node("GlobalAveragePool", ["input"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["495"]),
        helper.make_node("ArgMax", ["495"], ["label"], axis=1, keepdims=0),
        helper.make_node("ReduceMax", ["input"], ["largest"], keepdims=0),
        helper.make_node("Cast", ["495"], ["half"], to=TensorProto.FLOAT16),
    ]
    kinds = {"495": (TensorProto.FLOAT, ["n", 3]), "label": (TensorProto.INT64, ["n"])}
    kinds |= {"largest": (TensorProto.FLOAT, []), "half": (TensorProto.FLOAT16, ["n", 3])}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, 4, 4])],
        [helper.make_tensor_value_info(name, *kind) for name, kind in kinds.items()],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    outputs = OnnxPredictor(path, PREPROCESSING, threads=1, portion=2).predict(images(3))
    assert {name: each.dtype for name, each in outputs.items()} == {
        "495": np.float32,
        "label": np.int64,
        "half": np.float32,
    }
    np.testing.assert_array_equal(outputs["label"], means(images(3)).argmax(axis=1))
    with pytest.raises(UnsupportedModel, match="'495', 'label', 'half'"):  # of several none is guessed
        CLASSIFICATION.named(outputs)


def test_no_images_give_no_answers(tmp_path):
    assert len(OnnxPredictor(pooled(tmp_path / "m.onnx"), PREPROCESSING).predict(images(0))) == 0
    assert len(TorchPredictor(Mean(), PREPROCESSING).predict(images(0))) == 0


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (np.zeros((1, 4, 4, 3), np.float32), "must be uint8"),
        (np.zeros((1, 3, 4, 4), np.uint8), "must be uint8"),
        (np.zeros((4, 4, 3), np.uint8), "must be uint8"),
        (np.zeros((1, 5, 4, 3), np.uint8), "4x4 pixels, these have 5x4"),
    ],
)
def test_other_images_are_refused(tmp_path, wrong, words):
    for predictor in (
        TorchPredictor(Mean(), PREPROCESSING),
        OnnxPredictor(pooled(tmp_path / "m"), PREPROCESSING),
    ):
        with pytest.raises(RequestError, match=words):
            predictor.predict(wrong)


@pytest.mark.parametrize("content", [b"", b"hello, I am no model at all"])
def test_a_file_that_is_not_onnx_is_a_file_problem(tmp_path, content, capfd):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(FileProblem, match="not an ONNX file"):
        OnnxPredictor(path, PREPROCESSING)
    with pytest.raises(FileProblem, match="ONNX"):
        describe_onnx(path)
    assert capfd.readouterr() == ("", "")


def test_a_truncated_file_is_a_file_problem(tmp_path):
    path = pooled(tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(FileProblem, match="cut short"):
        OnnxPredictor(path, PREPROCESSING)


@pytest.mark.parametrize("read", [read_onnx, lambda path: OnnxPredictor(path, PREPROCESSING)])
def test_a_missing_file_is_named(tmp_path, read):
    with pytest.raises(FileProblem, match=r"none\.onnx does not exist"):
        read(tmp_path / "none.onnx")


@pytest.mark.parametrize(
    ("versions", "words"),
    [
        ({"opset": 99}, "too new for onnxruntime .*Opset 99, at most"),
        ({"ir_version": 99}, "too new .*IR version: 99"),
    ],
)
def test_a_file_from_the_future_is_explained(tmp_path, versions, words, capfd):
    with pytest.raises(FileProblem, match=words):
        OnnxPredictor(pooled(tmp_path / "m.onnx", **versions), PREPROCESSING)
    assert capfd.readouterr() == ("", "")


def test_a_model_that_fails_while_running_is_explained(tmp_path):
    nodes = [helper.make_node("Reshape", ["input", "shape"], ["logits"])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, 4, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 48])],
        [numpy_helper.from_array(np.array([2, 48]), "shape")],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    predictor = OnnxPredictor(path, PREPROCESSING)
    assert predictor.predict(images(2))["logits"].shape == (2, 48)
    with pytest.raises(UnsupportedModel, match="cannot run on a batch of 3"):
        predictor.predict(images(3))


def test_description_of_a_users_file(tmp_path):
    described = describe_onnx(pooled(tmp_path / "m.onnx"))
    assert described.inputs == [{"name": "input", "dtype": "float32", "layout": "NCHW", "shape": [None, 3, 4, 4]}]
    assert described.outputs == [{"name": "logits", "dtype": "float32", "shape": [None, 3]}]
    assert (described.opset, described.ir_version) == (20, 9)


def test_predictor_for_reads_the_manifest(tmp_path):
    recorded = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3], "size": [4, 4], "embedded": False}
    artifact = SimpleNamespace(path=pooled(tmp_path / "m.onnx"), format="onnx", preprocessing=recorded)
    np.testing.assert_allclose(
        predictor_for(artifact, threads=1).predict(images(2))["logits"], means(images(2)), atol=1e-5
    )
    artifact.preprocessing = {}
    with pytest.raises(RequestError, match=r"no recorded preprocessing .* mean=.*edgecr judge"):
        predictor_for(artifact)
    artifact.format = "abacus"
    with pytest.raises(RequestError, match="'abacus' cannot be run"):
        predictor_for(artifact)


def weights_beside_none(path):
    assert weights_beside(path) == ()
    read_onnx(path)


@pytest.mark.parametrize("ask", [read_onnx, weights_beside_none, lambda path: OnnxPredictor(path, PREPROCESSING)])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_file_is_never_waited_for(tmp_path, ask, kind):
    path = Path("/dev/zero")
    if kind == "pipe":
        path = tmp_path / "pipe.onnx"
        os.mkfifo(path)
    with pytest.raises(FileProblem, match="is not a file"):
        ask(path)


def test_a_name_that_is_no_text_is_the_trouble(tmp_path):
    odd = tmp_path / "mod\udce9l.onnx"
    shutil.copy(pooled(tmp_path / "m.onnx"), odd)
    for ask in (read_onnx, lambda path: OnnxPredictor(path, PREPROCESSING)):
        with pytest.raises(FileProblem, match=r"not UTF-8\. Rename"):
            ask(odd)
