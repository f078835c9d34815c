"""OpenVINO as a predictor: ONNX files and its own, with the settings of a device."""

from __future__ import annotations

import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from edgecr.core.errors import FileProblem, RequestError
from edgecr.predictors import predictor_for
from edgecr.predictors.openvino_file import openvino_library, read_openvino
from edgecr.predictors.openvino_predictor import OpenVinoPredictor
from tests.predictors.test_predictors import PREPROCESSING, images, means, pooled
from tests.skips import has_openvino

pytestmark = pytest.mark.skipif(not has_openvino(), reason="openvino is not installed")


@pytest.fixture
def files(tmp_path):
    """The mean colour of an image, as an ONNX file and as one of OpenVINO's."""
    onnx_file, own = pooled(tmp_path / "model.onnx"), tmp_path / "model.xml"
    openvino_library().save_model(read_openvino(onnx_file), own, compress_to_fp16=False)
    return {"onnx": onnx_file, "openvino": own}


def described(path, kind):
    recorded = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.3), "size": (4, 4), "embedded": False}
    return SimpleNamespace(path=path, format=kind, preprocessing=recorded)


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_it_answers_like_any_other_runtime(files, kind):
    predictor = predictor_for(described(files[kind], kind), runtime="openvino", threads=1)
    for count in (1, 5):
        answers = predictor.predict(images(count))
        assert list(answers) == ["logits"]
        np.testing.assert_allclose(answers["logits"], means(images(count)), atol=1e-6)


def test_a_fixed_batch_is_split_and_filled(tmp_path):
    predictor = OpenVinoPredictor(pooled(tmp_path / "model.onnx", batch=2), PREPROCESSING)
    np.testing.assert_allclose(predictor.predict(images(5))["logits"], means(images(5)), atol=1e-6)


def test_the_settings_of_a_device_reach_the_runtime(files):
    settings = {"threads": 1, "device": "CPU", "inference_precision": "f32"}
    predictor = predictor_for(described(files["onnx"], "onnx"), runtime="openvino", settings=settings)
    known = predictor._compiled
    assert known.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"
    assert (known.get_property("INFERENCE_NUM_THREADS"), known.get_property("NUM_STREAMS")) == (1, 1)


def test_a_device_that_is_not_here_is_refused(files):
    with pytest.raises(RequestError, match="OpenVINO finds no 'NPU9' on this machine, only CPU"):
        OpenVinoPredictor(files["onnx"], PREPROCESSING, device="NPU9")


def test_weights_that_are_missing_are_named(files, tmp_path):
    moved = shutil.move(files["openvino"], tmp_path / "alone.xml")
    with pytest.raises(FileProblem, match=r"alone\.bin does not exist; it holds the weights of alone\.xml"):
        read_openvino(moved)


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
@pytest.mark.parametrize("content", [b"", b"<net", b"no file of any kind", b"<net name='x' version='11'></net>"])
def test_a_damaged_file_is_a_file_problem(files, kind, content, capfd):
    files[kind].write_bytes(content)
    with pytest.raises(FileProblem, match=r"model\.(xml|onnx) (cannot be read by openvino|holds no model)"):
        read_openvino(files[kind])
    assert capfd.readouterr() == ("", "")


def test_cut_weights_are_a_file_problem(files, tmp_path):
    weights = files["openvino"].with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:1])
    with pytest.raises(FileProblem, match=r"model\.xml cannot be read by openvino"):
        read_openvino(files["openvino"])


def test_a_missing_library_says_what_to_install(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(RequestError, match=r'pip install "edgecr\[openvino\]"'):
        OpenVinoPredictor(files["onnx"], PREPROCESSING)


def test_telemetry_is_never_imported(files):
    assert sys.modules["openvino_telemetry"] is None
