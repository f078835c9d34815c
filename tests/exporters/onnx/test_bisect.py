from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from edgecr.exporters.onnx.bisect import first_difference
from edgecr.exporters.onnx.count import count_onnx
from edgecr.exporters.onnx.names import layer_name
from tests.exporters.tiny_subjects import LABELS, ThreeLayers, export, images, preprocessing, subject_of


@pytest.fixture(scope="module", params=["fp32", "fp16", "int8"])
def case(request, tmp_path_factory):
    """A subject and its file in one of the precisions."""
    torch.manual_seed(0)
    subject = subject_of(ThreeLayers())
    keys = {"quantise": {"images": 8, "calibrator": "minmax"}} if request.param == "int8" else {}
    keys |= {"parity": {"agreement": 0.0, "max_rel": None, "cosine": None}} if keys else {}
    return subject, export(subject, tmp_path_factory.mktemp("case"), 8, precision=request.param, **keys)


class Tokens(nn.Module):
    """Linear layers on three axes, whose weights the exporter turns and whose biases it adds apart."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.query = nn.Conv2d(3, 8, 2, 2), nn.Linear(8, 8)
        self.key, self.head = nn.Linear(8, 8), nn.Linear(8, len(LABELS))

    def tokens(self, x: torch.Tensor) -> torch.Tensor:
        return self.patches(x).flatten(2).transpose(1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.tokens(x)
        looks = torch.softmax(self.query(x) @ self.key(x).transpose(1, 2), -1)
        return self.head((looks @ x).mean(1))


def looked_at(case, path):
    subject, artifact = case
    return first_difference(subject.module, replace(artifact, path=path), preprocessing(), images(2))


def test_a_sound_file_differs_nowhere(case):
    found = looked_at(case, case[1].path)
    assert (found.layer, found.compared) == ("", 3)
    assert "all 3 layers that were compared agree" in found.words


@pytest.mark.parametrize(("layer", "place"), [("0", 1), ("3", 2), ("7", 3)])
def test_the_first_layer_with_other_weights_is_named(case, tmp_path, layer, place):
    """Also the one whose normalisation is folded into it, and in every precision."""
    model = onnx.load(case[1].path)
    for tensor in model.graph.initializer:
        if layer_name(tensor.name) == layer and tensor.name != layer:
            tensor.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(tensor), tensor.name))
    onnx.save(model, tmp_path / "model.onnx")
    found = looked_at(case, tmp_path / "model.onnx")
    assert (found.layer, found.compared) == (layer, place)
    assert found.difference > 0.05


def test_a_file_without_the_names_of_the_module_tells_nothing(exported, tmp_path):
    subject, artifact = exported
    model = onnx.load(artifact.path)
    for tensor in model.graph.initializer:
        for node in model.graph.node:
            node.input[:] = [f"x.{name}" if name == tensor.name else name for name in node.input]
        tensor.name = f"x.{tensor.name}"
    onnx.save(model, tmp_path / "model.onnx")
    assert looked_at((subject, artifact), tmp_path / "model.onnx") is None


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_linear_layers_on_tokens_bear_their_names_and_are_compared_with_their_bias(tmp_path, precision):
    torch.manual_seed(0)
    module = Tokens()
    options = {"quantise": {"calibrator": "minmax", "exclude": ["query"]}} if precision == "int8" else {}
    limits = {"agreement": 0.0, "max_rel": None, "cosine": None}
    subject = subject_of(module, untouched=Tokens)
    artifact = export(subject, tmp_path, 8, precision=precision, parity=limits, **options)
    assert [layer.name for layer in count_onnx(artifact.path).layers] == ["patches", "query", "key", "head"]
    found = first_difference(module, artifact, preprocessing(), images(2))
    assert (found.layer, found.compared) == ("", 4)
    if precision == "int8":
        assert set(artifact.receipt["integers"]["float_layers"]) == {"query"}


def test_a_weight_that_two_uses_turn_lies_once_in_the_file(tmp_path):
    class Again(Tokens):
        def forward(self, x):
            return self.head(self.query(self.query(self.tokens(x))).mean(1))

    artifact = export(subject_of(Again(), untouched=Again), tmp_path)
    assert [layer.name for layer in count_onnx(artifact.path).layers] == ["patches", "query", "query", "head"]
    assert artifact.receipt["file"]["parameters"] == 8 * 3 * 4 + 8 + 8 * 8 + 8 + 5 * 8 + 5


def test_an_activation_in_place_and_embedded_scaling_do_not_mislead(tmp_path):
    module = ThreeLayers()
    module[2].inplace = module[4].inplace = True
    artifact = export(subject_of(module), tmp_path, embed_preprocessing=True, dynamic_batch=False)
    found = first_difference(module, artifact, preprocessing(), images(2))
    assert (found.layer, found.compared) == ("", 3)
    assert found.difference < np.float32(1e-5)


class NormThenRelu(torch.nn.BatchNorm2d):
    """A normalisation with its activation within, as timm has them."""

    def forward(self, given):
        return super().forward(given).relu()


def test_an_activation_within_a_normalisation_does_not_mislead(tmp_path):
    torch.manual_seed(0)
    module = ThreeLayers()
    norm = NormThenRelu(module[1].num_features)
    norm.load_state_dict(module[1].state_dict())
    module[1] = norm
    artifact = export(subject_of(module), tmp_path)
    found = first_difference(module, artifact, preprocessing(), images(2))
    assert (found.layer, found.compared) == ("", 3)
    assert found.difference < np.float32(1e-5)
