"""A file held against documents: each kind of refusal, by place, and what is only remarked on."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecr.core.errors import RequestError
from edgecr.exporters import exporters, load_target
from edgecr.exporters.tensorrt.readiness import readiness
from edgecr.exporters.tensorrt.sparsity import has_pattern
from tests.exporters.tensorrt.conftest import target

SHAPE = [1, 8, 6, 6]


def write(
    folder, nodes, opset=13, ir_version=7, kind=TensorProto.FLOAT, shape=SHAPE, output=TensorProto.FLOAT, **stored
):
    """A file of some nodes from ``x`` to ``y``."""
    ends = [helper.make_tensor_value_info("x", kind, shape), helper.make_tensor_value_info("y", output, None)]
    tensors = [numpy_helper.from_array(np.asarray(value), name.replace("__", ".")) for name, value in stored.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    onnx.save(onnx.shape_inference.infer_shapes(model), folder / "model.onnx")
    return folder / "model.onnx"


def node(op, *inputs, name="here", outputs=("y",), **attributes):
    return helper.make_node(op, inputs, list(outputs), name, **attributes)


def ints(*values):
    return np.array(values, np.int64)


RELU = [node("Relu", "x")]
WEIGHT = np.random.default_rng(0).integers(-90, 90, (4, 8, 3, 3)).astype(np.int8)
SCALE, ZERO = np.float32(0.1), np.int8(0)


WEIGHTS = ("w.weight", "ws", "wz")


def rounded(axis=0, groups=1, weight_of="weight_8"):
    """A convolution whose input and weight are rounded, the weight in the file or stored."""
    return [
        node("QuantizeLinear", "x", "s", "z", name="q", outputs=["x_8"]),
        node("DequantizeLinear", "x_8", "s", "z", name="dq", outputs=["x_f"]),
        *([] if weight_of == "w" else [node("QuantizeLinear", *WEIGHTS, name="qw", outputs=["weight_8"], axis=axis)]),
        node("DequantizeLinear", weight_of, "ws", "wz", name="dqw", outputs=["w_f"], axis=axis),
        node("Conv", "x_f", "w_f", "b", name="conv", group=groups),
    ]  # fmt: skip


GOOD = {"s": SCALE, "z": ZERO, "w__weight": WEIGHT.astype(np.float32), "ws": np.full(4, 0.1, np.float32)}
GOOD |= {"wz": np.zeros(4, np.int8), "b": np.zeros(4, np.float32)}


def problems(file, jetpack=4, **options):
    return readiness(file, target(jetpack, **options)).problems


def test_a_rounded_convolution_is_ready_everywhere(tmp_path):
    file = write(tmp_path, rounded(), **GOOD)
    for jetpack in (4, 5, 6, 7):
        found = readiness(file, target(jetpack))
        assert (found.problems, found.remarks) == ((), ())
        assert all("documentation of version" in source for source in found.sources)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"z": np.uint8(0)}, "QuantizeLinear q has integers of type uint8; only int8 is taken"),
        ({"z": np.int8(3)}, "QuantizeLinear q has a zero point that is not 0"),
        ({"s": np.float32(0)}, "QuantizeLinear q has a scale that is not positive"),
        (
            {"s": np.full(8, 0.1, np.float32), "z": np.zeros(8, np.int8)},
            "dq has a scale for each channel of an activation",
        ),
    ],
)
def test_rounding_against_the_rules_is_named(tmp_path, changed, told):
    assert any(told in each for each in problems(write(tmp_path, rounded(), **(GOOD | changed)), 6))


def test_scales_along_the_wrong_axis_are_named(tmp_path):
    scales = {"ws": np.full(8, 0.1, np.float32), "wz": np.zeros(8, np.int8)}
    (told,) = problems(write(tmp_path, rounded(axis=1), **(GOOD | scales)), 6)
    assert told == "DequantizeLinear dqw has scales along axis 1; output channels lie along axis 0 (TensorRT 10.3)"


def test_stored_integers_are_for_newer_versions(tmp_path):
    stored = {name: value for name, value in GOOD.items() if name != "w__weight"} | {"w": WEIGHT}
    file = write(tmp_path, rounded(weight_of="w"), **stored)
    assert problems(file, 6) == ()
    assert problems(file, 5) == (
        "DequantizeLinear dqw reads stored integers; weights must be floats that the file rounds (TensorRT 8.5)",
    )


def test_a_rounded_bias_is_named(tmp_path):
    nodes = [*rounded()[:-1], node("DequantizeLinear", "b32", "s", "zb", name="dqb", outputs=["b"]), rounded()[-1]]
    stored = {name: value for name, value in GOOD.items() if name != "b"}
    file = write(tmp_path, nodes, b32=np.zeros(4, np.int32), zb=np.int32(0), **stored)
    assert any("DequantizeLinear dqb has 32-bit integers, as a rounded bias has" in each for each in problems(file, 6))


def test_integers_that_do_not_become_floats_again_are_named(tmp_path):
    nodes = [node("QuantizeLinear", "x", "s", "z", name="q", outputs=["q"]), node("Identity", "q", name="pass")]
    file = write(tmp_path, nodes, output=TensorProto.INT8, s=SCALE, z=ZERO)
    assert any("QuantizeLinear q has a reader that takes integers" in each for each in problems(file))


def test_groups_in_integers_are_remarked_on(tmp_path):
    groups = GOOD | {"w__weight": WEIGHT[:, :4].astype(np.float32)}
    found = readiness(write(tmp_path, rounded(groups=2), **groups), target(6))
    assert found.problems == ()
    assert found.remarks == ("Conv conv has 2 groups in 8-bit integers, which TensorRT may run one by one",)


CASES = {
    "the file has opset 18, and 9 to 13 are read": (RELU, {"opset": 18}),
    "the file has ONNX's format version 9, and up to 7 are read": (RELU, {"ir_version": 9}),
    "HardSwish here is an operator that the parser does not know": ([node("HardSwish", "x")], {"opset": 14}),
    "Conv here of layer a.b computes": (
        [node("Neg", "x", outputs=["w"]), node("Conv", "x", "w", "a.b.weight")],
        {"shape": [8, 8, 1, 1], "a__b__weight": np.zeros(8, np.float32)},
    ),
    "'x' is of type uint8": ([node("Cast", "x", to=TensorProto.FLOAT)], {"kind": TensorProto.UINT8}),
    "the stored tensor 'w' is of type int16": (
        [node("Cast", "w", outputs=["c"], to=1), node("Mul", "x", "c")],
        {"w": np.int16(1)},
    ),
    "Squeeze here computes its axes from the image": (
        [node("Cast", "x", outputs=["a"], to=7), node("Squeeze", "x", "a")],
        {"shape": [1]},
    ),
    "MaxPool here has dilations=[2, 2]": ([node("MaxPool", "x", kernel_shape=[2, 2], dilations=[2, 2])], {}),
    "Resize here has mode=cubic": ([node("Resize", "x", "", "f", mode="cubic")], {"f": np.float32([1, 1, 2, 2])}),
    "MaxPool here gives the places": ([node("MaxPool", "x", kernel_shape=[2, 2], outputs=["y", "places"])], {}),
    "TopK here computes its number": (
        [
            node("Shape", "x", outputs=["n"]),
            node("Slice", "n", "l", "m", outputs=["k"]),
            node("TopK", "x", "k", outputs=["y", "i"]),
        ],
        {"l": ints(0), "m": ints(1)},
    ),
    "TopK here asks for 3840 results": (
        [node("TopK", "x", "k", outputs=["y", "i"], axis=0)],
        {"k": ints(4000), "shape": [4000]},
    ),
    "the file is no valid ONNX": ([node("Relu", "nobody")], {}),
}


@pytest.mark.parametrize("told", CASES)
def test_a_use_that_is_not_taken_is_named_by_its_place(tmp_path, told):
    nodes, given = CASES[told]
    found = problems(write(tmp_path, nodes, **given))
    assert any(told in each for each in found), found


def test_raw_pixels_are_for_newer_versions(tmp_path):
    file = write(tmp_path, [node("Cast", "x", to=TensorProto.FLOAT)], kind=TensorProto.UINT8)
    assert problems(file, 6) == ()
    inside = [node("Cast", "x", outputs=["u"], to=TensorProto.UINT8), node("Cast", "u", to=TensorProto.FLOAT)]
    assert any("'u' is of type uint8" in each for each in problems(write(tmp_path, inside), 6))


def test_open_shapes_and_results_of_unknown_length_are_remarked_on(tmp_path):
    nodes = [node("NonZero", "x")]
    found = readiness(write(tmp_path, nodes, shape=["n", 8], output=TensorProto.INT64), target(7))
    assert found.problems == ()
    assert found.remarks == (
        "input 'x' leaves axes 0 open: the engine is built for a range of shapes",
        "NonZero here has a result whose shape depends on the image, which costs time at every call",
    )


def test_a_long_list_is_cut_and_counted(tmp_path):
    nodes = [node("BitShift", "x", "x", name=f"shift{n}", outputs=[f"y{n}"], direction="LEFT") for n in range(12)]
    found = problems(write(tmp_path, [*nodes, *RELU]), 6)
    assert len(found) == 9
    assert found[-1].endswith("more")


def wide(pattern=True, channels=256):
    weight = np.ones((channels, channels, 1, 1), np.float32)
    if pattern:
        weight[:, ::4] = weight[:, 1::4] = 0
    return {"w__weight": weight}


CONV = [node("Conv", "x", "w.weight", name="conv")]


def test_sparsity_is_judged_by_the_weights_of_wide_layers(tmp_path):
    sparse = target(6, precision="fp16", sparsity=True)
    given = {"shape": [1, 256, 2, 2]}
    assert readiness(write(tmp_path, CONV, **given, **wide()), sparse).remarks == ("2:4 sparsity in w",)
    (told,) = readiness(write(tmp_path, CONV, **given, **wide(pattern=False)), sparse).problems
    assert told == "sparsity is asked for, but these layers have no two zeros in every four: w"
    plain = readiness(write(tmp_path, CONV, **given, **wide(pattern=False)), target(6))
    assert plain.remarks == ("layers wide enough for 2:4 sparsity: w; with the pattern: 0",)
    narrow = readiness(write(tmp_path, CONV, shape=[1, 252, 2, 2], **wide(channels=252)), sparse)
    assert "no ungrouped layer has 256 channels" in narrow.problems[0]


@pytest.mark.parametrize(("values", "has"), [([0, 0, 1, 1], True), ([0, 1, 1, 1], False), ([0, 0, 0, 0], True)])
def test_the_pattern_lies_along_the_input_channels(values, has):
    weight = np.broadcast_to(np.reshape(values, (1, 4, 1, 1)), (3, 4, 2, 2))
    assert has_pattern(weight) == has
    assert has_pattern(weight.reshape(3, 4, 4)) == has


def test_formats_that_run_here_have_nothing_to_look_up(tmp_path):
    with pytest.raises(RequestError, match="Files in the format 'onnx' are run on this machine"):
        exporters.get("onnx")().ready(load_target("onnx"), tmp_path / "model.onnx")
