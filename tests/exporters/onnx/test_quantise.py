"""Files of 8-bit integers: what runs in integers, what the receipt reads from them, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from edgecr.core.errors import ExportRefused, RequestError, UnsupportedModel
from edgecr.exporters import rounding
from edgecr.exporters.control import error
from edgecr.exporters.onnx import coverage
from edgecr.exporters.onnx import write as onnx_write
from edgecr.exporters.onnx.calibration import Activations
from edgecr.exporters.onnx.count import count_onnx, zero_channels
from edgecr.exporters.onnx.coverage import integer_work
from edgecr.exporters.onnx.quantise import quantised
from edgecr.models import architecture
from edgecr.predictors import predictor_for
from edgecr.predictors.onnx_predictor import AS_WRITTEN, open_session
from edgecr.subject import Subject
from tests.exporters.tiny_subjects import (
    LABELS,
    ThreeLayers,
    export,
    images,
    preprocessing,
    proof,
    randomised,
    subject_of,
    target,
)

SIZE = 16


class Inverted(nn.Module):
    """An inverted residual block with depthwise, grouped and pointwise convolutions and a gate, and branches."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        self.wide = nn.Sequential(nn.Conv2d(16, 32, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6())
        self.depth = nn.Sequential(nn.Conv2d(32, 32, 3, 1, 1, groups=32, bias=False), nn.BatchNorm2d(32), nn.ReLU6())
        self.narrow = nn.Sequential(nn.Conv2d(32, 16, 1, groups=2, bias=False), nn.BatchNorm2d(16))
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 4, 1), nn.ReLU(), nn.Conv2d(4, 16, 1))
        self.side = nn.Conv2d(16, 16, 1)
        self.head = nn.Linear(16, len(LABELS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x + self.narrow(self.depth(self.wide(x)))
        x = nn.functional.hardswish(x) * nn.functional.hardsigmoid(self.gate(x)) + self.side(x)
        return self.head(x.mean((2, 3), keepdim=True).flatten(1))


@pytest.fixture(scope="module", params=["resnet20", "inverted"])
def network(request, tmp_path_factory):
    """A float32 file, written once."""
    if request.param == "resnet20":
        subject = Subject.create(architecture({"arch": "resnet20"}), len(LABELS), (SIZE, SIZE), seed=0)
        randomised(subject.module)
    else:
        torch.manual_seed(0)
        subject = subject_of(Inverted(), size=SIZE)
    file = tmp_path_factory.mktemp(request.param) / "model.onnx"
    onnx_write.write(subject, target(), preprocessing(SIZE), file)
    return file


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("tiny") / "model.onnx"
    onnx_write.write(subject_of(ThreeLayers()), target(), preprocessing(), file)
    return file


def rounded(file, count=16, size=8, **options):
    declared = target(precision="int8", quantise=options)
    return quantised(onnx.load(file), declared, proof(1, size, calibration=count))


def saved(model, path):
    path.write_bytes(model.SerializeToString())
    return path


def initialisers(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def zero_points(model):
    stored = initialisers(model)
    return [stored[node.input[2]] for node in model.graph.node if node.op_type == "QuantizeLinear"]


def test_all_work_of_real_networks_runs_in_integers_and_the_receipt_reads_it(network, tmp_path):
    model, facts = rounded(network, size=SIZE)
    file = saved(model, tmp_path / "model.onnx")
    work, before, after = integer_work(file), count_onnx(network), count_onnx(file)
    assert work.share == 1.0
    assert work.macs == before.macs
    assert work.warnings() == []
    assert after.layers == before.layers
    assert zero_channels(file) == {}
    assert {weight.dtype for weight in initialisers(model).values() if weight.ndim > 1} == {np.dtype(np.int8)}
    assert set(facts["losses"]) == {"minmax", "percentile", "mse", "entropy"}
    assert facts["losses"][facts["calibrator"]] == min(facts["losses"].values()) < 0.02


def test_calibrators_are_compared_on_a_quarter_of_the_images_that_no_range_has_seen(tiny, monkeypatch):
    seen, held = [], []

    def activations(model, portions):
        seen.extend(portions)
        return Activations(model, portions)

    def losses(model, made, portions, settings):
        held.extend(portions)
        return dict.fromkeys(made, 0.0)

    monkeypatch.setattr("edgecr.exporters.onnx.quantise.Activations", activations)
    monkeypatch.setattr("edgecr.exporters.onnx.quantise._losses", losses)
    rounded(tiny)
    ranged, compared = ({image.tobytes() for image in np.concatenate(each)} for each in (seen, held))
    assert (len(ranged), len(compared), len(ranged | compared)) == (12, 4, 16)


def test_parameters_are_those_of_the_network_without_scales(tiny, tmp_path):
    model, _ = rounded(tiny)
    assert count_onnx(saved(model, tmp_path / "model.onnx")).params == 216 + 8 + 432 + 6 + 30 + 5


def test_the_same_images_give_the_same_bytes(tiny):
    first, again = (rounded(tiny)[0].SerializeToString(deterministic=True) for _ in range(2))
    assert first == again


def test_the_outputs_are_not_rounded(tiny):
    values = open_session(rounded(tiny)[0].SerializeToString()).run(None, {"input": preprocessing().apply(images(64))})[
        0
    ]
    assert len(np.unique(values)) > 256


@pytest.mark.parametrize(("axis", "operator"), [(1, "Gemm"), (2, "Add")])
def test_the_outputs_of_a_last_linear_layer_stay_in_floats_whatever_stands_before(tmp_path, axis, operator):
    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden, self.last = nn.Linear(3 * 64 if axis == 1 else 64, 8), nn.Linear(8, len(LABELS))

        def forward(self, x):
            return self.last(torch.relu(self.hidden(x.flatten(axis))))

    file = tmp_path / "model.onnx"
    onnx_write.write(subject_of(Hidden()), target(), preprocessing(), file)
    model, _ = rounded(file, calibrator="minmax")
    last = makers(model)["logits"]
    assert last.op_type == operator
    assert makers(model)[last.input[0]].op_type == "DequantizeLinear"
    file.write_bytes(model.SerializeToString())
    assert integer_work(file).share == 1.0


@pytest.mark.parametrize(
    ("vnni", "asked", "narrow"),
    [(False, "auto", True), (None, "auto", True), (True, "auto", False), (False, False, False)],
)
def test_weights_have_7_bits_where_sums_saturate(tiny, tmp_path, monkeypatch, vnni, asked, narrow):
    monkeypatch.setattr(rounding, "vnni", lambda: vnni)
    monkeypatch.setattr(coverage, "vnni", lambda: vnni)
    model, facts = rounded(tiny, reduce_range=asked, calibrator="minmax")
    largest = max(
        np.abs(w.astype(int)).max() for name, w in initialisers(model).items() if name.endswith("weight_quantized")
    )
    assert (facts["reduce_range"], largest <= 64) == (narrow, narrow)
    warnings = integer_work(saved(model, tmp_path / "m.onnx")).warnings()
    assert any("saturate" in text for text in warnings) == (vnni is False and not narrow)
    if vnni is None:
        assert "does not say" in facts["reduce_range_because"]


def test_files_for_arm_have_signed_activations_and_full_weights(tiny, tmp_path):
    model, facts = rounded(tiny, activations="int8", calibrator="minmax")
    assert {zero.dtype for zero in zero_points(model)} == {np.dtype(np.int8)}
    assert facts["reduce_range"] is False
    work = integer_work(saved(model, tmp_path / "m.onnx"))
    assert (work.share, work.kernels) == (1.0, "ARM")


class OnlyLinear(nn.Module):
    """Layers without normalisation, whose sums of full 8-bit products leave 16 bits."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(192, 64), nn.Linear(64, 64), nn.Linear(64, len(LABELS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.second(torch.relu(self.first(x.flatten(1))))))


def test_files_for_arm_are_judged_by_what_they_say_on_every_processor(tmp_path):
    torch.manual_seed(0)
    subject = subject_of(OnlyLinear(), untouched=OnlyLinear)
    options = {"activations": "int8", "calibrator": "auto", "max_drop": 0.9}
    artifact = export(subject, tmp_path, calibration=16, precision="int8", quantise=options)
    literal = open_session(artifact.path, settings=AS_WRITTEN).run(None, {"input": preprocessing().apply(images())})[0]
    given = predictor_for(artifact).predict(images())["logits"]
    assert error({"logits": literal}, {"logits": given}) < 1e-6
    assert max(artifact.lineage["rounding"]["losses"].values()) < 2e-3
    assert artifact.parity["cosine"] > 0.999


@pytest.mark.parametrize("activations", ["uint8", "int8"])
@pytest.mark.parametrize("stored", ["int8", "fp32"])
def test_kernels_follow_the_integers_of_activations(tiny, tmp_path, activations, stored):
    model, _ = rounded(tiny, activations=activations, stored=stored, calibrator="minmax")
    work = integer_work(saved(model, tmp_path / "m.onnx"))
    assert (work.share, work.kernels) == (1.0, {"uint8": "x86", "int8": "ARM"}[activations])


def test_symmetric_ones_have_their_zero_at_0(tiny):
    model, _ = rounded(tiny, activations="int8", symmetric=True, calibrator="minmax")
    assert all(zero == 0 for zero in zero_points(model))


TENSORRT = {"activations": "int8", "symmetric": True, "placement": "tensorrt", "calibrator": "minmax"}


def makers(model):
    return {name: node for node in model.graph.node for name in node.output}


@pytest.mark.parametrize("stored", ["int8", "fp32"])
def test_values_for_tensorrt_are_those_that_layers_and_shortcuts_read(network, stored, tmp_path):
    model, _ = rounded(network, size=SIZE, stored=stored, **TENSORRT)
    before, made, values = onnx.load(network), makers(model), initialisers(model)
    assert all(zero.dtype == np.int8 and not zero.any() for zero in zero_points(model))
    for node in model.graph.node:
        groups = next((item.i for item in node.attribute if item.name == "group"), 1)
        if node.op_type in ("Conv", "Gemm"):
            rounds = [made[name].op_type == "DequantizeLinear" for name in node.input[:2] if name in made]
            assert rounds == ([True, True] if groups == 1 else [False])
            assert all(values[bias].dtype == np.float32 for bias in node.input[2:])
        elif node.op_type == "Add":
            assert sorted(made[name].op_type == "DequantizeLinear" for name in node.input) == [False, True]
            plain = next(made[name] for name in node.input if made[name].op_type != "DequantizeLinear")
            assert plain.op_type == "Conv"  # which the addition is fused with
    rounded_values = [node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    read = [name for node in before.graph.node for name in node.input if node.op_type in ("Conv", "Gemm", "Add")]
    assert set(rounded_values) <= set(read)
    weights = [each for name, each in values.items() if each.ndim > 1]
    assert np.dtype(np.int8 if stored == "int8" else np.float32) in {weight.dtype for weight in weights}
    assert count_onnx(saved(model, tmp_path / "m.onnx")).layers == count_onnx(network).layers


def test_an_addition_with_two_convolutions_rounds_the_shorter_branch(tmp_path):
    class Down(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.side = (nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(3, 8, 5))
            self.head = nn.Linear(8, len(LABELS))

        def forward(self, x):
            joined = self.second(torch.relu(self.first(x))) + self.side(x)
            return self.head(torch.relu(joined).mean((2, 3)))

    file = tmp_path / "model.onnx"
    onnx_write.write(subject_of(Down()), target(), preprocessing(), file)
    model, _ = rounded(file, **TENSORRT)
    made = makers(model)
    (add,) = (node for node in model.graph.node if node.op_type == "Add")
    plain, shortcut = sorted((made[name] for name in add.input), key=lambda node: node.op_type)
    assert (plain.op_type, made[plain.input[1]].input[0]) == ("Conv", "second.weight_quantized")
    source = made[made[shortcut.input[0]].input[0]]
    assert made[source.input[1]].input[0] == "side.weight_quantized"


@pytest.mark.parametrize("options", [{"activations": "int8"}, {"symmetric": True}])
def test_rules_of_tensorrt_need_signed_symmetric_integers(options):
    with pytest.raises(ValueError, match="placement: tensorrt needs activations: int8 and symmetric: true"):
        target(precision="int8", quantise={"placement": "tensorrt", **options})


def test_integers_among_float16_need_an_opset_that_knows_them():
    with pytest.raises(ValueError, match="quantise: floats: fp16 needs opset: 19 or more, but it is 17"):
        target(precision="int8", opset=17, quantise=TENSORRT | {"floats": "fp16"})


def test_integers_among_float16_are_for_tensorrt_alone():
    with pytest.raises(ValueError, match="floats: fp16 needs placement: tensorrt"):
        target(precision="int8", quantise={"floats": "fp16"})


def test_layers_that_are_excluded_stay_in_floats_and_are_named(tiny, tmp_path):
    model, _ = rounded(tiny, exclude=["3", "7"], calibrator="minmax")
    file = saved(model, tmp_path / "m.onnx")
    work = integer_work(file)
    assert set(work.float_layers) == {"3", "7"}
    assert work.share == pytest.approx(64 * 216 / (64 * 216 + 16 * 432 + 30))
    assert "only 67% of the multiply-accumulates run in integers; in floats run 3, 7" in work.warnings()[0]
    with pytest.raises(RequestError, match=r"`exclude: \[layer9\]` fits no layer"):
        rounded(tiny, exclude=["layer9"])


def test_a_channel_of_zeros_stays_one(tmp_path):
    module = ThreeLayers()
    module[3].weight.data[2] = 0
    file = tmp_path / "model.onnx"
    onnx_write.write(subject_of(module), target(), preprocessing(), file)
    model, _ = rounded(file, calibrator="minmax")
    assert zero_channels(saved(model, tmp_path / "rounded.onnx")) == {"3": 1} == zero_channels(file)


def test_bad_input_is_refused_in_words(tiny, tmp_path):
    with pytest.raises(RequestError, match="ranges come from training images, but there are none"):
        rounded(tiny, count=0)
    no_layer = onnx.load(tiny)
    del no_layer.graph.initializer[:]
    with pytest.raises(UnsupportedModel, match="no convolution or linear layer"):
        quantised(no_layer, target(precision="int8"), proof(1, 8, calibration=4))


def test_too_few_images_to_compare_calibrators_take_the_extremes(tiny):
    _, facts = rounded(tiny, count=3)
    assert (facts["calibrator"], facts["losses"], facts["images"]) == ("minmax", {}, 3)


def slimmed(**options):
    return subject_of(ThreeLayers(4), cut=True, promised=lambda: ThreeLayers(4), **options)


def masked():
    module = ThreeLayers()
    module[0].weight.data[4:] = 0
    module[1].bias.data[4:] = 0
    module[1].running_mean[4:] = 0
    return module


def test_a_pruned_network_has_fewer_channels_in_integers_too(tmp_path, capfd):
    artifact = export(slimmed(), tmp_path, calibration=16, precision="int8")
    assert artifact.precision == "int8"
    assert artifact.receipt["file"]["channels"] == 4 + 6 + 5
    assert artifact.receipt["removed"]["channels"] == pytest.approx(4 / 19)
    assert artifact.receipt["integers"]["share"] == 1.0
    assert artifact.lineage["rounding"]["activations"] == "uint8"
    assert artifact.parity["cosine"] >= 0.95
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "model.manifest.json",
        "model.onnx",
        "proof.safetensors",
    ]
    assert capfd.readouterr() == ("", "")
    assert type(artifact).load(artifact.path) == artifact


@pytest.mark.parametrize(("promised", "why"), [(4, "19 channels in the file, 15 promised"), (8, "")])
def test_one_that_is_only_masked_is_refused(tmp_path, promised, why):
    subject = subject_of(masked(), cut=True, promised=lambda: ThreeLayers(promised), untouched=lambda: ThreeLayers(12))
    with pytest.raises(ExportRefused, match=why or "channels of cut layers are still in the file as zeros"):
        export(subject, tmp_path, calibration=16, precision="int8", parity={"cosine": None, "agreement": None})


def test_a_file_that_answers_otherwise_is_refused_by_the_targets_own_limits(tmp_path):
    with pytest.raises(ExportRefused, match=r"parity: 19 images in 20 have a cosine of .* \(needed 1.0\)"):
        export(subject_of(ThreeLayers()), tmp_path, calibration=16, precision="int8", parity={"cosine": 1.0})
    refused = json.loads((tmp_path / "refused.json").read_text())
    assert refused["parity"]["cosine"] < 1.0


@pytest.mark.parametrize("dynamic", [True, False])
def test_raw_pixels_of_any_number_of_images_and_of_one(tmp_path, dynamic):
    torch.manual_seed(0)
    options = {"precision": "int8", "embed_preprocessing": True, "dynamic_batch": dynamic}
    artifact = export(subject_of(ThreeLayers()), tmp_path, calibration=8, **options)
    assert (artifact.input["dtype"], artifact.input["shape"]) == ("uint8", [None if dynamic else 1, 8, 8, 3])
    assert artifact.receipt["integers"]["share"] == 1.0
