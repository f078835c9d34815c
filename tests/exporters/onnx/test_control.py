"""Accuracy control of 8-bit files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from edgecr.core.errors import ExportRefused
from edgecr.exporters import exporters
from edgecr.exporters.control import error
from edgecr.exporters.drop import DropMeter
from edgecr.predictors.onnx_predictor import AS_WRITTEN, open_session
from tests.exporters.tiny_subjects import target

WIDE = {"agreement": 0.0, "cosine": None}


def exported(subject, folder, data, **quantise):
    asked = target(precision="int8", quantise={"calibrator": "minmax"} | quantise, parity=WIDE)
    return exporters.get("onnx")().export(subject, asked, data, folder, {})


def float_convolutions(path):
    """The convolutions whose weights are still floats."""
    model = onnx.load(path)
    stored = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    floats = [node.input[1] for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    return {name.removesuffix(".weight") for name in floats if stored.get(name) == onnx.TensorProto.FLOAT}


@pytest.mark.parametrize("labelled", [True, False])
def test_costly_layers_stay_in_floats_until_the_drop_holds(tmp_path, lopsided, data, labelled):
    facts = exported(lopsided, tmp_path, replace(data, labelled=labelled), max_drop=0.1).lineage["rounding"]
    assert facts["drop_with_all_rounded"] > 0.1 >= facts["drop"]
    assert set(facts["floats_kept"]) == {"0", "3"}, "the value between these two is what cannot be rounded"
    assert float_convolutions(tmp_path / "model.onnx") == set(facts["floats_kept"])
    errors = {layer: each["clean"] for layer, each in facts["sensitivity"].items()}
    assert errors["7"] < errors["0"] / 10
    assert all(each["noise"] not in (0, each["clean"]) for each in facts["sensitivity"].values())
    assert errors["7"] < errors["3"] / 10
    assert facts["drop_images"] == 60


@pytest.mark.parametrize("placement", ["tensorrt", "onnxruntime"])
def test_files_for_tensorrt_are_judged_as_they_are_written(tmp_path, lopsided, data, monkeypatch, placement):
    asked = []

    def session(model, **given):
        asked.append(given["settings"])
        return open_session(model, **given)

    monkeypatch.setattr("edgecr.exporters.onnx.quantise.open_session", session)
    exported(lopsided, tmp_path, data, max_drop=0.9, placement=placement, activations="int8", symmetric=True)
    assert asked == [AS_WRITTEN if placement == "tensorrt" else None] * 2, "the file in floats, and the rounded one"


def test_nothing_stays_where_nothing_has_to(tmp_path, lopsided, data):
    facts = exported(lopsided, tmp_path, data, max_drop=0.9).lineage["rounding"]
    assert facts["floats_kept"] == []
    assert facts["drop"] == facts["drop_with_all_rounded"]
    assert facts["sensitivity"] == {}


def test_a_limit_that_cannot_be_held_is_refused_with_the_figure(tmp_path, lopsided, data, monkeypatch):
    monkeypatch.setattr(DropMeter, "of", lambda self, model: 0.5)
    with pytest.raises(ExportRefused, match=r"loses 50.00% on 60 validation images, more than `max_drop: 0.01`"):
        exported(lopsided, tmp_path, data, max_drop=0.01)


def test_the_error_is_relative_to_the_expected_outputs():
    expected = {"logits": np.array([[3.0, 4.0]], np.float32)}
    assert error(expected, expected) == 0
    assert error(expected, {"logits": np.array([[0.0, 0.0]], np.float32)}) == pytest.approx(1)
    assert error(expected, {"logits": np.array([[3.0, 4.5]], np.float32)}) == pytest.approx(0.01)
