"""Files of 8-bit integers by NNCF: what runs in integers, how weights are rounded, and what is refused."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from edgecr.core.errors import ExportRefused, RequestError, UnsupportedModel
from edgecr.exporters import exporters, rounding
from edgecr.exporters.onnx import write as onnx_write
from edgecr.exporters.openvino import coverage
from edgecr.exporters.openvino.coverage import integer_work
from edgecr.exporters.openvino.layers import for_one_image, integers, layers_of
from edgecr.exporters.openvino.quantise import quantised
from edgecr.exporters.openvino.write import converted, layer_names, with_layer_names
from edgecr.predictors.onnx_file import read_onnx
from edgecr.predictors.openvino_file import openvino_library, read_openvino
from tests.exporters.openvino.test_exporter import export, masked
from tests.exporters.tiny_subjects import ThreeLayers, preprocessing, proof, subject_of, target
from tests.skips import has_openvino

pytestmark = pytest.mark.skipif(not has_openvino(), reason="openvino is not installed")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The ONNX file that all are made from, written once."""
    file = tmp_path_factory.mktemp("source") / "model.onnx"
    onnx_write.write(subject_of(ThreeLayers()), target(), preprocessing(), file)
    return file


def rounded(source, folder, count=16, **options):
    """The file that NNCF makes, and what was chosen."""
    model = converted(source)
    layers = with_layer_names(model, layer_names(read_onnx(source)))
    declared = target(format="openvino", precision="int8", quantise=options)
    made, facts = quantised(model, layers, declared, proof(1, 8, calibration=count))
    openvino_library().save_model(made, folder / "model.xml", compress_to_fp16=False)
    return folder / "model.xml", facts


def largest_weights(file):
    stored = [integers(layer.operator.input(1)) for layer in layers_of(for_one_image(read_openvino(file)))]
    return [0 if each is None else int(np.abs(each.astype(int)).max()) for each in stored]


def test_a_pruned_network_has_fewer_channels_in_integers_and_the_same_bytes_each_time(tmp_path, capfd, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    torch.manual_seed(0)  # with some weights the seven images of the proof are too near to call
    subject = subject_of(ThreeLayers(4), cut=True, promised=lambda: ThreeLayers(4))
    artifact = export(subject, tmp_path / "out", calibration=16, precision="int8")
    assert artifact.receipt["file"]["channels"] == 4 + 6 + 5
    assert artifact.receipt["file"]["parameters"] == 108 + 4 + 216 + 6 + 30 + 5
    assert artifact.receipt["removed"]["channels"] == pytest.approx(4 / 19)
    assert artifact.receipt["integers"]["share"] == 1.0
    assert artifact.parity["cosine"] >= 0.95
    assert artifact.lineage["rounding"]["preset"] == "mixed"
    assert "nncf" in artifact.lineage["made_with"]
    assert export(subject, tmp_path / "again", calibration=16, precision="int8").hashes == artifact.hashes
    assert capfd.readouterr() == ("", "")
    assert sys.modules["openvino_telemetry"] is None
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(("preset", "symmetric"), [("performance", True), ("mixed", False)])
def test_the_preset_decides_whether_activations_of_both_signs_have_their_zero_at_0(source, tmp_path, preset, symmetric):
    file, _ = rounded(source, tmp_path, preset=preset)
    first = next(node for node in read_openvino(file).get_ordered_ops() if node.get_type_name() == "FakeQuantize")
    low, high = (float(first.input(place).get_source_output().get_node().data.ravel()[0]) for place in (1, 2))
    assert (low == pytest.approx(-high * 128 / 127)) == symmetric


def test_biases_are_corrected_by_the_way_that_was_asked_for(source, tmp_path):
    made = []
    for number, fast in enumerate((True, True, False)):
        folder = tmp_path / str(number)
        folder.mkdir()
        file, _ = rounded(source, folder, fast_bias_correction=fast)
        made.append(file.with_suffix(".bin").read_bytes())
    assert made[0] == made[1]
    assert made[0] != made[2]


@pytest.mark.parametrize(
    ("vnni", "asked", "narrow"),
    [(False, "auto", True), (True, "auto", False), (False, False, False)],
)
def test_weights_have_7_bits_where_sums_saturate(source, tmp_path, monkeypatch, vnni, asked, narrow):
    monkeypatch.setattr(rounding, "vnni", lambda: vnni)
    monkeypatch.setattr(coverage, "vnni", lambda: vnni)
    file, facts = rounded(source, tmp_path, reduce_range=asked, preset="performance")
    assert facts["reduce_range"] is narrow
    assert (max(largest_weights(file)) <= 64) is narrow
    assert any("saturate" in text for text in integer_work(file).warnings()) == (vnni is False and not narrow)


def test_layers_that_are_excluded_stay_in_floats_and_are_named(source, tmp_path):
    file, facts = rounded(source, tmp_path, exclude=["3", "7"], fast_bias_correction=False)
    work = integer_work(file)
    assert set(work.float_layers) == {"3", "7"}
    assert work.share == pytest.approx(64 * 216 / (64 * 216 + 16 * 432 + 30))
    assert "only 67% of the multiply-accumulates run in integers; in floats run 3, 7" in work.warnings()[0]
    assert largest_weights(file)[1:] == [0, 0]
    assert facts["exclude"] == ["3", "7"]


def test_costly_layers_stay_in_floats_until_the_drop_holds(tmp_path, lopsided, data):
    options = {"max_drop": 0.1, "exclude": ["7"]}
    asked = target(format="openvino", precision="int8", quantise=options, parity={"agreement": 0.0, "cosine": None})
    artifact = exporters.get("openvino")().export(lopsided, asked, data, tmp_path, {})
    facts = artifact.lineage["rounding"]
    assert facts["drop_with_all_rounded"] > 0.1 >= facts["drop"]
    assert facts["drop_images"] == 60
    assert set(facts["sensitivity"]) == {"0", "3"}
    assert set(integer_work(artifact.path).float_layers) == {"7", *facts["floats_kept"]} != {"7"}


def test_nothing_stays_in_floats_where_nothing_has_to(tmp_path, lopsided, data):
    asked = target(
        format="openvino", precision="int8", quantise={"max_drop": 0.9}, parity={"agreement": 0.0, "cosine": None}
    )
    artifact = exporters.get("openvino")().export(lopsided, asked, data, tmp_path, {})
    facts = artifact.lineage["rounding"]
    assert (facts["floats_kept"], facts["sensitivity"]) == ([], {})
    assert facts["drop"] == facts["drop_with_all_rounded"]
    assert integer_work(artifact.path).share == 1.0


def test_bad_input_is_refused_in_words(source, tmp_path):
    with pytest.raises(RequestError, match=r"`exclude: \[layer9\]` fits no layer"):
        rounded(source, tmp_path, exclude=["layer9"])
    with pytest.raises(RequestError, match="ranges come from training images, but there are none"):
        rounded(source, tmp_path, count=0)
    with pytest.raises(UnsupportedModel, match="no convolution or linear layer"):
        quantised(None, [], target(format="openvino", precision="int8"), proof(1, 8, calibration=4))


def test_one_that_is_only_masked_is_refused(tmp_path):
    subject = subject_of(
        masked(ThreeLayers(), 4), cut=True, promised=lambda: ThreeLayers(8), untouched=lambda: ThreeLayers(12)
    )
    with pytest.raises(ExportRefused, match="channels of cut layers are still in the file as zeros"):
        export(subject, tmp_path, calibration=16, precision="int8", parity={"cosine": None, "agreement": None})


def test_depthwise_layers_keep_8_bits_and_do_not_saturate(tmp_path, monkeypatch):
    monkeypatch.setattr(rounding, "vnni", lambda: False)
    monkeypatch.setattr(coverage, "vnni", lambda: False)

    def separable():
        module = ThreeLayers()
        module.insert(3, nn.Conv2d(8, 8, 3, padding=1, groups=8))
        return module

    torch.manual_seed(0)  # with seven images one answer more or less is beyond the limit of parity
    loose = {"agreement": 0.5}
    subject = subject_of(separable(), untouched=separable)
    artifact = export(subject, tmp_path, calibration=16, precision="int8", parity=loose)
    assert [each > 64 for each in largest_weights(artifact.path)] == [False, True, False, False]
    assert artifact.receipt["integers"]["saturates"] is False


def test_floats_are_exported_without_the_quantiser():
    code = (
        "import sys\nfrom edgecr.exporters import exporters, load_target\n"
        "target = load_target('openvino-int8')\nexporters.get('openvino')().check(target)\n"
        "print([name for name in ('torch', 'openvino', 'nncf', 'openvino_telemetry') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
