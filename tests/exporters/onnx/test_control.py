"""Accuracy control of 8-bit files."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from edgecr.core.errors import ExportRefused, WorkError
from edgecr.data.sets import MemorySet
from edgecr.exporters import exporters
from edgecr.exporters.control import Controlling, error
from edgecr.exporters.drop import DropMeter
from edgecr.predictors import predictor_for
from edgecr.predictors.onnx_predictor import AS_WRITTEN, open_session
from edgecr.tasks import CLASSIFICATION
from tests.exporters.tiny_subjects import images, proof, target

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


def test_the_drop_is_that_of_the_file_as_it_ships_its_floats_in_float16(tmp_path, lopsided, data):
    """Values between two layers are as small as float16 has hardly any; in integers with scales in float32 all fit."""
    quiet, sizes = copy.deepcopy(lopsided), torch.tensor([2e-9] + 7 * [2e-6])
    with torch.no_grad():
        quiet.module[1].weight *= sizes
        quiet.module[1].bias *= sizes
        quiet.module[3].weight /= sizes[:, None, None]
    options = {"placement": "tensorrt", "activations": "int8", "symmetric": True, "floats": "fp16"}
    artifact = exported(quiet, tmp_path, data, max_drop=0.9, **options)
    shown, answers = data.judging(1000)
    given = predictor_for(artifact).predict(shown)["logits"].argmax(1)
    assert artifact.lineage["rounding"]["drop"] == pytest.approx((given != answers).mean()) != 0


def dropped(given, labelled):
    """The drop of a model that gives these outputs, after one that is always right."""
    right = np.tile(np.float32([1, 0]), (20, 1))
    shown = MemorySet(images(20), np.zeros(20, np.int64))
    judged = replace(proof(), _validation=shown, labelled=labelled)
    return DropMeter(right, judged, np.asarray, 100, lambda model, portions: [[model]]).of(np.float32(given))


@pytest.mark.parametrize(("limit", "kept"), [(0.9, 0), (0.35, 3), (0.3, 4), (0, 7)])
def test_the_search_finds_the_fewest_layers_the_costliest_first(limit, kept):
    """Each layer in integers adds its number to the second output; each of 20 images bears twice its number of that."""
    nodes = {f"node {cost}": str(cost) for cost in (3, 1, 8, 5, 2, 7, 4, 6)}
    numbers = np.arange(1, 21, dtype=np.uint8).reshape(20, 1, 1, 1)
    shown = MemorySet(numbers.repeat(3, axis=3), np.zeros(20, np.int64))

    def ask(floats, portions):
        cost = sum(int(layer) for node, layer in nodes.items() if node not in floats)
        return [[np.stack([2.0 * portion[:, 0, 0, 0], np.full(len(portion), cost + 0.5)], 1)] for portion in portions]

    meter = DropMeter([*nodes], replace(proof(), _train=shown, _validation=shown), np.asarray, 8, ask)
    found = Controlling(list, nodes, meter).within(limit)
    assert found.layers == tuple("87654321")[:kept]
    assert {nodes[node] for node in found.model} == set(found.layers)
    assert found.whole_drop == 0.9
    assert found.drop <= limit


@pytest.mark.parametrize("labelled", [True, False])
def test_a_drop_that_equals_a_limit_holds_it(labelled):
    assert dropped([[0, 1]] + [[1, 0]] * 19, labelled) == 0.05


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_an_answer_that_is_no_number_is_wrong(labelled, number):
    assert dropped([[number, 0]] * 5 + [[1, 0]] * 15, labelled) == 0.25


def test_scores_that_are_no_numbers_hold_no_limit(monkeypatch):
    monkeypatch.setattr(type(CLASSIFICATION), "score", lambda self, answers, targets: targets * np.nan)
    with pytest.raises(WorkError, match=r"scores outside of \[0, 1\]"):
        dropped([[1, 0]] * 20, labelled=True)


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


def test_the_error_of_each_output_counts_whatever_its_size():
    expected = {"large": np.full((2, 2), 1e4, np.float32), "small": np.full((2, 2), 1e-2, np.float32)}
    assert error(expected, expected | {"small": -expected["small"]}) == pytest.approx(4)
    assert error(expected, expected | {"large": -expected["large"]}) == pytest.approx(4)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_an_answer_that_is_no_number_is_an_infinite_error(number):
    expected = {"logits": np.float32([[3, 4]])}
    assert error(expected, {"logits": np.float32([[3, number]])}) == np.inf
    assert error({"logits": np.float32([[3, number]])}, expected) == np.inf
