"""Convolutions of bits in OpenVINO: a trained network answers as in PyTorch, and what has no bits is refused."""

import numpy as np
import pytest
import torch
from torch import nn

from edgecr.core.errors import RequestError, UnsupportedModel
from edgecr.data.views import ProofData
from edgecr.exporters import exporters, load_target, parse_target
from edgecr.exporters.openvino.binary import with_bits
from edgecr.exporters.openvino.layers import for_one_image, layers_of
from edgecr.exporters.openvino.write import converted
from edgecr.exporters.verifying import verify
from edgecr.latency_builder.forms import load_measurable
from edgecr.methods.binarise import Binarise
from edgecr.predictors.openvino_file import read_openvino
from edgecr.predictors.openvino_predictor import compiled
from edgecr.surgery.changes import BinaryInputs, BinaryWeights
from edgecr.surgery.changes.binary import BINARY
from tests.exporters.tiny_subjects import ThreeLayers, export, randomised, subject_of
from tests.skips import has_openvino
from tests.workplace import context, dataset, subject

pytestmark = pytest.mark.skipif(not has_openvino(), reason="openvino is not installed")
KEYS = {"epochs": 1, "batch": 35, "precision": "fp32", "lr": 0.02, "activations": "binary"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A network of 8, 16 and 32 channels, trained with signs."""
    return Binarise.parse(KEYS).apply(subject(width=0.5), context(tmp_path_factory.mktemp("trained")))


def written(given, name, folder):
    data, target = dataset(), load_target(name)
    proof = ProofData(data.classes, data.preprocessing, "", data.train, data.validation)
    return exporters.get(target.format)().export(given, target, proof, folder, {"run": "test"})


@pytest.fixture(scope="module")
def artifact(trained, tmp_path_factory):
    return written(trained, "openvino-binary", tmp_path_factory.mktemp("openvino") / "file")


def test_the_file_holds_bits_and_answers_as_the_model_does(trained, artifact):
    model = for_one_image(read_openvino(artifact.path))
    kinds = [layer.operator.get_type_name() for layer in layers_of(model)]
    assert kinds == ["Convolution", *["BinaryConvolution"] * len(trained.surgery[0].layers), "MatMul"]
    assert artifact.precision == "binary"
    assert artifact.parity["max_rel"] < 1e-4
    total = trained.promise().total(BINARY)
    assert artifact.receipt["promises"]["binary weights"] == {"promised": total, "file": total}
    assert "integers" not in artifact.receipt
    assert artifact.lineage["rounding"] == {"binary_layers": list(trained.surgery[0].layers), "float_layers": {}}
    weights = artifact.path.with_name("model.bin").stat().st_size
    assert weights < total / 8 + 4 * (artifact.receipt["file"]["parameters"] - total) + 2000
    assert {check.status for check in verify(artifact.path.parent).checks} == {"PASS"}


def test_float_files_carry_the_same_function(trained, tmp_path):
    told = written(trained, "onnx", tmp_path / "onnx").parity
    assert told["max_rel"] < 1e-4
    assert told["limits"]["cosine"] == 0.99, "the last bit of a float may turn a sign"


def plain_signs(module, *layers):
    """The module with signs as weights and inputs of some layers."""
    BinaryInputs(layers=layers).replay(module)
    BinaryWeights(tensors=tuple(f"{name}.weight" for name in layers)).impose(module)
    return randomised(module).eval()


def in_bits(module, channels, folder):
    """The layers that were put into bits, and the difference between the answers, relative to the largest one."""
    example = torch.randn(1, channels, 9, 9)
    torch.onnx.export(module, (example,), dynamo=True, external_data=False, verbose=False).save(folder / "model.onnx")
    model = converted(folder / "model.onnx")
    told = with_bits(model)
    found = next(iter(compiled(model, folder)([example.numpy()]).values()))
    expected = module(example).detach().numpy()
    return told, float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize(
    "keys",
    [
        {"kernel_size": 3, "padding": 1, "stride": 2},
        {"kernel_size": (1, 3), "padding": (0, 1), "bias": False},
        {"kernel_size": 3, "padding": 2, "dilation": 2},
    ],
)
def test_strides_padding_and_dilation_are_those_of_the_layer(keys, tmp_path):
    torch.manual_seed(0)
    _, difference = in_bits(
        plain_signs(nn.Sequential(nn.BatchNorm2d(16), nn.Conv2d(16, 10, **keys)), "1"), 16, tmp_path
    )
    assert difference < 1e-5


class Residual(nn.Module):
    """A sum of two tensors right before signs."""

    def __init__(self):
        super().__init__()
        self.one, self.norm = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.two = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, images):
        return self.two(torch.relu(self.norm(self.one(images)) + images))


def test_a_sum_before_signs_is_not_taken_for_bits(tmp_path):
    torch.manual_seed(0)
    told, difference = in_bits(plain_signs(Residual(), "one", "two"), 8, tmp_path)
    assert len(told["binary_layers"]) == 2
    assert difference < 1e-5


def test_channels_that_fill_no_byte_stay_floats(tmp_path):
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(8, 12, 3), nn.BatchNorm2d(12), nn.Conv2d(12, 8, 3))
    told, difference = in_bits(plain_signs(layers, "0", "2"), 8, tmp_path)
    assert [len(told[key]) for key in ("binary_layers", "float_layers")] == [1, 1]
    assert "12 channels come in" in next(iter(told["float_layers"].values()))
    assert difference < 1e-5
    with pytest.raises(UnsupportedModel, match="12 channels come in"):
        in_bits(plain_signs(nn.Sequential(nn.Conv2d(12, 8, 3)), "0"), 12, tmp_path)


def test_what_has_no_signs_is_refused(tmp_path):
    keys = {"format": "openvino", "precision": "binary", "dynamic_batch": False}
    with pytest.raises(RequestError, match=r"this model has none.*activations: binary"):
        export(subject_of(ThreeLayers()), tmp_path, **keys)
    module = ThreeLayers()
    BinaryInputs(layers=("3",)).replay(module)
    with pytest.raises(UnsupportedModel, match="layer '3' sees signs, but the weights of a channel"):
        export(subject_of(module), tmp_path, **keys)


def test_targets_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="set dynamic_batch: false"):
        parse_target({"name": "t", "purpose": "a test", "format": "openvino", "precision": "binary"})
    with pytest.raises(RequestError, match="No latency table can be built"):
        load_measurable("openvino-binary")


def test_arm_is_refused(monkeypatch):
    monkeypatch.setattr("edgecr.exporters.openvino.exporter.on_arm", lambda: True)
    with pytest.raises(RequestError, match="on x86 only"):
        exporters.get("openvino")().check(load_target("openvino-binary"))
