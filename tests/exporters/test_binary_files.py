"""Binary and masked weights in exported files: the receipt finds them, and a packed file is small."""

import numpy as np
import pytest
import torch
from onnx import numpy_helper

from edgecr.exporters.onnx.compact import read_plain
from edgecr.exporters.onnx.count import layer_weights
from edgecr.exporters.receipt import Receipt
from edgecr.models import architecture
from edgecr.predictors.onnx_file import read_onnx
from edgecr.subject import Subject
from edgecr.surgery.changes import BinaryWeights, WeightMask
from edgecr.surgery.changes.binary import BINARY, BinaryRows
from edgecr.surgery.counters import count
from edgecr.surgery.layer_names import weighted_layers
from edgecr.surgery.packing import GAPS, MASK, SIGNS, TRITS
from edgecr.surgery.promise import ZEROS
from tests.exporters.tiny_subjects import LABELS, export, randomised
from tests.skips import has_openvino

FORMATS = [
    "onnx",
    pytest.param("openvino", marks=pytest.mark.skipif(not has_openvino(), reason="openvino is not installed")),
]


@pytest.fixture(scope="module")
def binary():
    """A residual network whose convolutions are binary, half of their weights zero."""
    subject = Subject.create(
        architecture({"arch": "resnet20", "width": 0.5, "blocks": [1, 1, 1]}), len(LABELS), (8, 8), 0
    )
    names = [f"{name}.weight" for name in weighted_layers(subject.module, ["linear"])]
    with torch.no_grad():
        for name in names:
            weight = subject.module.get_parameter(name)
            weight[weight.abs() < weight.abs().median()] = 0
    masked = WeightMask.of(subject.module, names)
    change = BinaryWeights(tensors=tuple(names))
    change.impose(subject.module)
    randomised(subject.module)
    return subject.with_changes(masked, change)


@pytest.mark.parametrize("kind", FORMATS)
def test_the_receipt_finds_every_binary_weight_and_zero_behind_folded_norms(binary, tmp_path, kind):
    told = export(binary, tmp_path, format=kind).receipt["promises"]
    total = binary.promise().total(BINARY)
    assert told["binary weights"] == {"promised": total, "file": total}
    assert told["zero weights"]["file"] == told["zero weights"]["promised"] > 0.45 * total


@pytest.fixture(scope="module")
def packed(binary, tmp_path_factory):
    return export(binary, tmp_path_factory.mktemp("packed"), storage="compact")


def test_packed_weights_take_hardly_more_than_their_entropy(packed):
    parts, weights = dict[str, int](), {}
    for tensor in read_onnx(packed.path).graph.initializer:
        name, _, part = tensor.name.partition("/packed/")
        if part in (MASK, SIGNS, TRITS, *GAPS):
            parts[name] = parts.get(name, 0) + len(tensor.raw_data)
    for tensor in read_plain(packed.path).graph.initializer:
        if tensor.name in parts:
            weights[tensor.name] = numpy_helper.to_array(tensor)
    assert len(weights) >= 3
    bits = sum(each.size + np.count_nonzero(each) for each in weights.values())  # half of them zero: a bit for each
    assert bits / 8 <= sum(parts.values()) < 1.2 * bits / 8


def test_a_channel_of_two_magnitudes_breaks_the_promise(binary, packed):
    counted, promise = count(binary.module, binary.input_shape), binary.promise()
    found = [BinaryRows().count(each) for each in layer_weights(packed.path)]
    kept = Receipt(counted, counted, counted, promise=promise, found={BINARY: found, ZEROS: [10**9] * len(found)})
    assert kept.failures() == []
    fewer = {**kept.found, BINARY: [found[0], found[1] - 1, *found[2:]]}
    (failure,) = Receipt(counted, counted, counted, promise=promise, found=fewer).failures()
    assert "binary weights of layer1.0.conv1.weight in the file" in failure
