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
    folder,
    nodes,
    opset=13,
    ir_version=7,
    kind=TensorProto.FLOAT,
    shape=SHAPE,
    output=TensorProto.FLOAT,
    sizes=None,
    **stored,
):
    """A file of some nodes from ``x`` to ``y``."""
    ends = [helper.make_tensor_value_info("x", kind, shape), helper.make_tensor_value_info("y", output, sizes)]
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
    "Conv here with the weights of layer a.b computes": (
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
        {"shape": [1], "sizes": []},
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


def test_a_long_list_is_told_whole(tmp_path):
    nodes = [node("BitShift", "u", "u", name=f"shift{n}", outputs=[f"y{n}"], direction="LEFT") for n in range(12)]
    found = problems(write(tmp_path, [node("Cast", "x", outputs=["u"], to=2), *nodes, *RELU]), 7)
    assert sum("is an operator that the parser does not know" in each for each in found) == 12


def constant(name, **value):
    return node("Constant", name=name, outputs=[name], **value)


@pytest.mark.parametrize("jetpack", [4, 6])
def test_scales_may_be_constants_among_the_nodes(tmp_path, jetpack):
    zeros = [constant(name, value=numpy_helper.from_array(np.asarray(GOOD[name]))) for name in ("z", "wz")]
    scales = [constant("s", value_float=0.1), constant("ws", value_floats=[0.1] * 4)]
    left = {name: value for name, value in GOOD.items() if name in ("w__weight", "b")}
    file = write(tmp_path, [*zeros, *scales, *rounded()], **left)
    assert problems(file, jetpack, precision="int8") == ()


def test_the_precision_of_the_target_is_asked_of_the_file(tmp_path):
    file = write(tmp_path, [node("Conv", "x", "w.weight")], w__weight=WEIGHT.astype(np.float32))
    for jetpack in (4, 5, 6, 7):
        (told,) = problems(file, jetpack, precision="int8")
        assert "no layer of the file has its input and its weights rounded" in told
        typed = problems(file, jetpack, precision="fp16")
        assert len(typed) == (jetpack >= 6), "older versions make float16 themselves"
        assert problems(file, jetpack) == ()
    halves = [node("Cast", "x", outputs=["h"], to=10), node("Cast", "h", to=1)]
    assert problems(write(tmp_path, halves), 6, precision="fp16") == ()


def branch(*nodes, output="inner"):
    return helper.make_graph(list(nodes), "branch", [], [helper.make_tensor_value_info(output, 1, list("abcd"))])


def either(*nodes):
    """A choice, by the image, between some nodes that make ``inner`` and a plain one."""
    other = branch(node("Relu", "x", outputs=["other"]), output="other")
    return [
        node("ReduceSum", "x", outputs=["sum"], keepdims=0),
        node("Cast", "sum", outputs=["truth"], to=TensorProto.BOOL),
        node("If", "truth", name="if", then_branch=branch(*nodes), else_branch=other),
    ]


INSIDE = {
    "DeformConv strange is an operator": (
        [node("DeformConv", "x", "w", "o", name="strange", outputs=["inner"])],
        {"opset": 19, "w": np.ones((8, 8, 1, 1), np.float32), "o": np.zeros((1, 2, 6, 6), np.float32)},
    ),
    "'pixels' is of type uint8": (
        [node("Cast", "x", outputs=["pixels"], to=2), node("Cast", "pixels", outputs=["inner"], to=1)],
        {},
    ),
    "QuantizeLinear q has a zero point that is not 0": (
        [
            node("QuantizeLinear", "x", "s", "z", name="q", outputs=["i"]),
            node("DequantizeLinear", "i", "s", "z", name="d", outputs=["inner"]),
        ],
        {"s": SCALE, "z": np.int8(3)},
    ),
    "MaxPool pool has dilations": (
        [node("MaxPool", "x", name="pool", outputs=["inner"], kernel_shape=[2, 2], dilations=[2, 2])],
        {},
    ),
}


@pytest.mark.parametrize("told", INSIDE)
def test_branches_are_held_against_the_documents_too(tmp_path, told):
    nodes, given = INSIDE[told]
    found = problems(write(tmp_path, either(*nodes), **given), 5)
    assert any(told in each for each in found), found


def test_a_branch_reads_what_is_stored_around_it(tmp_path):
    inside = either(node("Conv", "x", "w.weight", outputs=["inner"]))
    assert problems(write(tmp_path, inside, w__weight=WEIGHT.astype(np.float32))) == ()


def test_weights_that_a_branch_makes_of_the_image_depend_on_it(tmp_path):
    nodes = [*either(node("Neg", "x", outputs=["inner"])), node("Conv", "x", "y", outputs=["end"], name="late")]
    file = write(tmp_path, nodes, shape=[8, 8, 1, 1])
    assert any("Conv late computes its weights" in each for each in problems(file))


def changed(folder, change, nodes=None, **given):
    """A file after a change that no writer of ONNX makes."""
    file = write(folder, RELU if nodes is None else nodes, **given)
    model = onnx.load(file)
    change(model)
    onnx.save(model, file)
    return file


def with_function(model):
    entries = [helper.make_opsetid("", 13)]
    model.functions.append(
        helper.make_function("own", "Twice", ["a"], ["b"], [node("Relu", "a", outputs=["b"])], entries)
    )
    model.opset_import.append(helper.make_opsetid("own", 1))


def test_functions_are_named(tmp_path):
    found = problems(changed(tmp_path, with_function, ir_version=8), 5)
    assert found == ("the file has functions of its own, which the parser does not read: Twice (TensorRT 8.5)",)


BROKEN = {
    "more than one opset": lambda model: model.opset_import.append(helper.make_opsetid("ai.onnx", 12)),
    "has no output": lambda model: model.graph.ClearField("output"),
    "no valid ONNX: Invalid tensor data type 99": lambda model: setattr(
        model.graph.input[0].type.tensor_type, "elem_type", 99
    ),
    "schema(::Relu:13) has input size 0": lambda model: model.graph.node[0].ClearField("input"),
    "must be specified for a Constant node": lambda model: model.graph.node.append(constant("empty")),
    "has zero input and zero output": lambda model: model.graph.node.append(helper.make_node("Constant", [], [])),
    "Inferred shape and existing shape differ": lambda model: setattr(
        model.graph.output[0].type.tensor_type.shape.dim[1], "dim_value", 7
    ),
}


@pytest.mark.parametrize("told", BROKEN)
def test_a_file_that_nothing_could_run_is_a_problem_by_itself(tmp_path, told):
    (found,) = problems(changed(tmp_path, BROKEN[told]))
    assert told in found


def test_ends_without_elements_are_a_problem(tmp_path):
    found = problems(write(tmp_path, RELU, shape=[1, 0, 6, 6]))
    assert found == ("input 'x' has an axis without elements", "output 'y' has an axis without elements")


def test_a_network_without_inputs_is_a_problem(tmp_path):
    def cut(model):
        del model.graph.input[:]

    file = changed(tmp_path, cut, [node("Relu", "w")], w=np.ones(SHAPE, np.float32))
    assert problems(file) == ("the file has no input",)


MISFITS = {
    "8 channels in 'x' where 3 are needed": ([node("Conv", "x", "w")], {"w": np.ones((4, 3, 1, 1), np.float32)}),
    "9 channels in 'b' where 4 are needed": (
        [node("Conv", "x", "w", "b")],
        {"w": np.ones((4, 8, 1, 1), np.float32), "b": np.ones(9, np.float32)},
    ),
    "8 channels in 'x' where 4 are needed": (
        [node("ConvTranspose", "x", "w")],
        {"w": np.ones((4, 8, 1, 1), np.float32)},
    ),
    "3 channels in 'w' where 8 are needed": (
        [node("BatchNormalization", "x", "w", "w", "w", "w")],
        {"w": np.ones(3, np.float32)},
    ),
    "Incompatible dimensions": ([node("Add", "x", "w")], {"w": np.ones(5, np.float32)}),
}


@pytest.mark.parametrize("told", MISFITS)
def test_weights_for_other_sizes_are_a_problem(tmp_path, told):
    nodes, stored = MISFITS[told]

    def declare(model):
        model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, list("abcd")))

    found = problems(changed(tmp_path, declare, nodes, **stored))
    assert any(told in each for each in found), found


def test_groups_share_the_channels(tmp_path):
    stored = {
        "w": np.ones((8, 2, 1, 1), np.float32),
        "v": np.ones((8, 2, 1, 1), np.float32),
        "b": np.ones(8, np.float32),
    }
    nodes = [node("Conv", "x", "w", "b", outputs=["a"], group=4), node("ConvTranspose", "a", "v", "b", group=4)]
    assert problems(write(tmp_path, nodes, **stored)) == ()


def test_the_number_of_results_may_be_a_constant(tmp_path):
    nodes = [constant("k", value_ints=[5]), node("TopK", "x", "k", outputs=["y", "i"])]
    assert problems(write(tmp_path, nodes)) == ()


def test_scales_may_lie_in_a_file_beside(tmp_path):
    file = write(tmp_path, rounded(), **GOOD)
    onnx.save(onnx.load(file), file, save_as_external_data=True, location="numbers.bin", size_threshold=0)
    assert problems(file, 6, precision="int8") == ()


def test_numbers_that_are_cut_short_or_too_many_are_a_problem(tmp_path):
    file = write(tmp_path, rounded(), **GOOD)
    onnx.save(onnx.load(file), file, save_as_external_data=True, location="numbers.bin", size_threshold=0)
    (tmp_path / "numbers.bin").write_bytes(b"")
    found = problems(file, 6)
    assert len(found) == len(GOOD)
    assert all("cannot be read" in each for each in found)

    def shorten(model):
        next(tensor for tensor in model.graph.initializer if tensor.name == "wz").dims[0] = 3

    (told,) = problems(changed(tmp_path, shorten, rounded(), **GOOD), 6)
    assert "the stored tensor 'wz' cannot be read" in told


def test_layers_that_share_their_weights_are_told_apart(tmp_path):
    offsets = {"w__weight": np.ones((8, 8, 1, 1), np.float32), "o": np.zeros((1, 2, 6, 6), np.float32)}
    nodes = [
        node("DeformConv", "x", "w.weight", "o", name="first", outputs=["a"]),
        node("DeformConv", "a", "w.weight", "o", name="second"),
    ]
    found = problems(write(tmp_path, nodes, opset=19, ir_version=8, **offsets), 5)
    for name in ("first", "second"):
        assert any(each.startswith(f"DeformConv {name} with the weights of layer w is an operator") for each in found)


@pytest.mark.parametrize("name", ["a\nready", "a\x1b[2Kready"])
def test_a_name_begins_no_line(tmp_path, name):
    nodes = [node("Cast", "x", outputs=["u"], to=2), node("BitShift", "u", "u", name=name, direction="LEFT")]
    found = problems(write(tmp_path, nodes, output=TensorProto.UINT8), 6)
    assert any("BitShift a" in each for each in found)
    assert all(each.isprintable() for each in found)


def test_a_mode_in_no_known_characters_is_told(tmp_path):
    file = write(tmp_path, [node("Resize", "x", "", "f", mode=b"\xff")], f=np.float32([1, 1, 2, 2]))
    assert any("Resize here has mode=\\xff" in each for each in problems(file, 6))


def wide(pattern=True, channels=256):
    weight = np.ones((channels, channels, 1, 1), np.float32)
    if pattern:
        weight[:, ::4] = weight[:, 1::4] = 0
    return {"w__weight": weight}


CONV = [node("Conv", "x", "w.weight", name="conv")]


def test_sparsity_is_judged_by_the_weights_of_wide_layers(tmp_path):
    sparse = target(6, sparsity=True)
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
