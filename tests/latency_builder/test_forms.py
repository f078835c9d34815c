"""Tables of files in fewer bits: their identity, and that the layers and models measured are what a target writes."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from edgecr.core.errors import NotConfigured, RequestError
from edgecr.core.progress import Monitor
from edgecr.exporters.base import load_target, parse_target
from edgecr.exporters.onnx.coverage import integer_work
from edgecr.latency import LatencyTable, LayerConfig, Machine
from edgecr.latency_builder.builder import TableBuilder, declared_machine, default_path
from edgecr.latency_builder.device_latencies import AgentLatencies
from edgecr.latency_builder.fill import exported
from edgecr.latency_builder.forms import form_of, load_measurable, runtime_of
from edgecr.latency_builder.layer_models import input_shape, output_shape, write_layer
from edgecr.runners.base import load_device
from tests.exporters.tiny_subjects import ThreeLayers, subject_of
from tests.latency_builder.test_builder import KINDS, TINY
from tests.runners.tiny_device import quick_device
from tests.skips import has_openvino

INT8 = load_target("onnx-int8")
LEVELS = 255 / 4
"""Integers of a measured layer for each unit of its values."""


def changed(name, **quantise):
    target = load_target(name)
    return parse_target(target.plain() | {"format": target.format, "quantise": quantise})


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("onnx", "onnx"),
        ("onnx-embedded", "onnx"),
        ("openvino", "onnx"),
        ("onnx-fp16", "onnx-fp16"),
        ("onnx-int8", "onnx-int8"),
        ("onnx-int8-arm", "onnx-int8-activations=int8"),
        ("openvino-int8", "openvino-int8"),
    ],
)
def test_files_are_of_one_form_where_a_runtime_makes_the_same_of_them(name, form):
    assert form_of(load_target(name)) == form


def test_what_does_not_decide_the_speed_is_no_part_of_a_form():
    for options in ({"images": 8, "calibrator": "mse"}, {"exclude": ["a"]}, {"reduce_range": True}, {"max_drop": 0.1}):
        assert form_of(changed("onnx-int8", **options)) == "onnx-int8"
    assert form_of(changed("onnx-int8", per_channel=False)) != "onnx-int8"


def test_a_table_of_float32_keeps_its_place_and_others_have_their_own():
    device = quick_device()
    assert default_path(device, "ort").as_posix() == "latency/quick-ort-t1.json"
    assert default_path(device, "ort", INT8).as_posix() == "latency/quick-ort-t1-onnx-int8.json"


def test_a_table_from_before_there_were_forms_is_one_of_float32(tmp_path):
    machine = Machine(device="quick", processor="none", runtime="ort", version="0", threads=1)
    table, device = LatencyTable(machine=machine, clock="wall"), quick_device()
    old = table.model_dump(mode="json")
    del old["machine"]["files"]
    assert LatencyTable.parse(old) == table
    assert declared_machine(device, "ort", table).files == "onnx"
    assert declared_machine(device, "ort", table, INT8).files == "onnx-int8"


def test_a_table_of_another_precision_is_refused_with_the_command_that_builds_the_right_one(tmp_path, monkeypatch):
    path = tmp_path / "t.json"
    monkeypatch.setattr(TableBuilder, "_entries", lambda *_: pytest.fail("nothing may be measured"))
    with TableBuilder(quick_device(), path=path) as builder:
        builder.table.save(path)
    words = (
        "files is 'onnx' there, 'onnx-int8' here.*edgecr latency-table build MODEL --device quick --target onnx-int8"
    )
    with pytest.raises(RequestError, match=words), TableBuilder(quick_device(), path=path, target=INT8):
        pass


def test_targets_that_cannot_be_measured_on_a_device_are_refused():
    with pytest.raises(RequestError, match="its format is tensorrt"):
        load_measurable("tensorrt-jetpack6-int8")
    with pytest.raises(NotConfigured, match="no runtime 'openvino'"):
        runtime_of(quick_device(), load_target("openvino-int8"))
    with pytest.raises(NotConfigured, match="not in 'ort'"):
        runtime_of(load_device("cpu"), load_target("openvino-int8"), "ort")
    assert runtime_of(load_device("cpu-openvino"), INT8) == "openvino"


@pytest.mark.parametrize("name", ["onnx-int8", "onnx-int8-arm"])
@pytest.mark.parametrize("config", [TINY[1], *KINDS], ids=lambda config: config.key)
def test_a_rounded_layer_computes_what_it_computes_in_floats(config, name, tmp_path):
    write_layer(config, tmp_path / "whole.onnx")
    write_layer(config, tmp_path / "rounded.onnx", load_target(name))
    whole, rounded = (onnxruntime.InferenceSession(tmp_path / f"{file}.onnx") for file in ("whole", "rounded"))
    (before,), (after,) = whole.get_inputs(), rounded.get_inputs()
    assert after.type == ("tensor(int8)" if name == "onnx-int8-arm" else "tensor(uint8)")
    assert (after.shape, rounded.get_outputs()[0].shape) == (input_shape(config), output_shape(config))
    pixels = np.random.default_rng(0).integers(0, 60, input_shape(config))
    zero = 128 if after.type == "tensor(int8)" else 0
    (expected,) = whole.run(None, {before.name: (pixels / LEVELS).astype(np.float32)})
    given = {after.name: (pixels - zero).astype(np.int8 if zero else np.uint8)}
    found = (rounded.run(None, given)[0].astype(np.float32) + zero) / LEVELS
    inside = (expected > 0.1) & (expected < 3.9)
    assert inside.any()
    assert np.abs(found - expected)[inside].max() < 0.06


def test_the_runtime_computes_a_rounded_layer_in_integers(tmp_path):
    write_layer(TINY[2], tmp_path / "l.onnx", INT8)
    work = integer_work(tmp_path / "l.onnx")
    assert work is not None
    assert work.share == 1


def test_a_layer_in_float16_has_ends_in_float32(tmp_path):
    write_layer(TINY[0], tmp_path / "l.onnx", load_target("onnx-fp16"))
    graph = onnx.load(tmp_path / "l.onnx").graph
    assert {tensor.data_type for tensor in graph.initializer} == {onnx.TensorProto.FLOAT16}
    assert graph.input[0].type.tensor_type.elem_type == graph.output[0].type.tensor_type.elem_type == 1


@pytest.mark.skipif(not has_openvino(), reason="openvino is not installed")
def test_openvino_computes_a_rounded_layer_in_integers(tmp_path):
    from edgecr.predictors.openvino_file import openvino_library

    wide = LayerConfig("conv", 16, 16, 1, 8, 8, (3, 3), padding=(1, 1))
    write_layer(wide, tmp_path / "l.onnx", load_target("openvino-int8"))
    compiled = openvino_library().compile_model(tmp_path / "l.onnx", "CPU")
    facts = [node.get_rt_info() for node in compiled.get_runtime_model().get_ordered_ops()]
    kinds = {str(one["layerType"].astype(str)): str(one["runtimePrecision"].astype(str)) for one in facts}
    assert kinds["Convolution"] == "u8"


def test_whole_models_are_rounded_like_the_files_that_ship(tmp_path):
    model = exported(subject_of(ThreeLayers()), "m", 1, tmp_path, changed("onnx-int8", exclude=["0"], max_drop=0.01))
    work = integer_work(model.path)
    assert work is not None
    assert list(work.float_layers) == ["0"], "all but what the target leaves in floats"


@pytest.mark.skipif(not has_openvino(), reason="openvino is not installed")
def test_weights_that_lie_beside_a_whole_model_go_along_with_it(tmp_path):
    model = exported(subject_of(ThreeLayers()), "m", 1, tmp_path, load_target("openvino-fp16"))
    assert model.beside == ("model.bin",)
    assert all((model.path.parent / name).is_file() for name in model.beside)


def test_the_agent_measures_rounded_layers(tmp_path, monkeypatch):
    short = {"launches": 1, "rounds": 2, "round_s": 0.001, "least_rounds": 2, "warmup": {"max_s": 0.005}}
    monkeypatch.setattr("edgecr.latency_builder.builder.LAYER_PROTOCOL", short)
    monkeypatch.setattr("edgecr.latency_builder.builder.SESSIONS", 1)
    with TableBuilder(quick_device(), path=tmp_path / "t.json", target=INT8) as builder:
        builder.measure(TINY)
    table = LatencyTable.load(tmp_path / "t.json")
    assert table.machine.files == "onnx-int8"
    assert all(table.latency(config).ms > 0 for config in TINY)


def test_widths_follow_the_precision_where_kernels_ask_for_more_than_the_device_says():
    asked = AgentLatencies(Monitor())
    declared = load_device("cpu").align
    found = {
        name: asked.align("cpu", name)
        for name in ("onnx", "onnx-int8", *(f"tensorrt-jetpack6-{bits}" for bits in ("fp32", "fp16", "int8")))
    }
    assert list(found.values()) == [declared, declared, declared, 8, 32]
