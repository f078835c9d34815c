"""Notes inside a file, and outputs beside the logits."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgecr.core.errors import FileProblem, RequestError
from edgecr.exporters.bare import artifact_of
from edgecr.exporters.onnx.finish import CLASSES, SCORES
from edgecr.predictors import predictor_for, preprocessing_of
from edgecr.predictors.onnx_file import LABELS, PREPROCESSING, WEIGHTS, notes_of
from edgecr.weights import hash_tensors
from tests.exporters.tiny_subjects import LABELS as NAMES
from tests.exporters.tiny_subjects import ThreeLayers, export, subject_of


def test_a_file_without_its_manifest_still_says_how_to_feed_it(tmp_path, exported):
    subject, artifact = exported
    alone = tmp_path / "alone.onnx"
    alone.write_bytes(artifact.path.read_bytes())
    told = artifact_of(alone)
    assert told.target == ""
    assert preprocessing_of(told) == preprocessing_of(artifact)
    assert tuple(told.labels) == NAMES
    assert notes_of(onnx.load(alone))[WEIGHTS] == hash_tensors(subject.module.state_dict())


@pytest.mark.parametrize("note", ["", "{", "[1, 2]", "null", '"text"', "[" * 200_000])
def test_notes_that_are_none_say_nothing(tmp_path, exported, note):
    model = onnx.load(exported[1].path)
    onnx.helper.set_model_props(model, {PREPROCESSING: note, LABELS: "7"})
    onnx.save(model, tmp_path / "odd.onnx")
    told = artifact_of(tmp_path / "odd.onnx")
    assert told.preprocessing == {}
    assert told.labels == []
    with pytest.raises(RequestError, match="no recorded preprocessing"):
        preprocessing_of(told)


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        (f"[1{'0' * 400}, 0.5, 0.5]", "[1, 1, 1]"),
        ("[NaN, 0.5, 0.5]", "[1, 1, 1]"),
        ("[0.5, 0.5, 0.5]", "[1, Infinity, 1]"),
        ("[0.5, 0.5, 0.5]", "[1, 0, 1]"),
        ("[0.5, 0.5]", "[1, 1, 1]"),
    ],
)
def test_notes_of_no_preprocessing_are_refused_in_words(tmp_path, exported, mean, std):
    model = onnx.load(exported[1].path)
    note = f'{{"mean": {mean}, "std": {std}, "size": [8, 8], "embedded": false}}'
    onnx.helper.set_model_props(model, {PREPROCESSING: note})
    onnx.save(model, tmp_path / "odd.onnx")
    with pytest.raises(FileProblem, match=r"odd\.onnx has a damaged preprocessing, in .* the notes inside it"):
        preprocessing_of(artifact_of(tmp_path / "odd.onnx"))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_likeliest_classes_stand_beside_the_logits(tmp_path, precision):
    subject = subject_of(ThreeLayers())
    artifact = export(subject, tmp_path, calibration=8, precision=precision, top_k=2, embed_preprocessing=True)
    assert [output["name"] for output in artifact.outputs] == ["logits", CLASSES, SCORES]
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    answers = predictor_for(artifact).predict(images)
    logits = answers["logits"].astype(np.float64)
    expected = np.argsort(-logits, axis=1)[:, :2]
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    assert (answers[CLASSES] == expected).all()
    assert np.allclose(answers[SCORES], np.take_along_axis(shares, expected, 1), atol=1e-5)


def test_more_classes_than_there_are(tmp_path):
    with pytest.raises(RequestError, match=r"asks for the 6 likeliest classes, but the model has 5. Set `top_k:` to 5"):
        export(subject_of(ThreeLayers()), tmp_path, top_k=6)
