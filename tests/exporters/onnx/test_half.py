"""Files in float16: half the size, the same ends."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecr.core.errors import UnsupportedModel
from edgecr.exporters.onnx.half import LARGEST, beyond_half, halved, kept_whole
from edgecr.predictors.onnx_predictor import open_session
from tests.exporters.tiny_subjects import ThreeLayers, export, subject_of


@pytest.mark.parametrize("embedded", [False, True])
def test_weights_halve_and_the_ends_stay(tmp_path, embedded, exported):
    artifact = export(subject_of(ThreeLayers()), tmp_path, precision="fp16", embed_preprocessing=embedded)
    assert artifact.input["dtype"] == ("uint8" if embedded else "float32")
    assert artifact.outputs == exported[1].outputs
    stored = {tensor.data_type for tensor in onnx.load(artifact.path).graph.initializer}
    assert TensorProto.FLOAT16 in stored
    assert TensorProto.FLOAT not in stored
    assert artifact.receipt["file"] == exported[1].receipt["file"] | (
        {"parameters": artifact.receipt["file"]["parameters"]} if embedded else {}
    )
    assert "integers" not in artifact.receipt
    assert 0 < artifact.parity["max_rel"] < 1e-2


def model_of(nodes, stored, output):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def test_scales_of_a_resize_stay_float32_and_it_runs():
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["a"]),
        helper.make_node("Resize", ["a", "", "scales"], ["y"], mode="nearest"),
    ]
    made = halved(model_of(nodes, {"w": [3.0], "scales": [1, 1, 2, 2]}, ["n", 1, 4, 4]))
    onnx.checker.check_model(made, full_check=True)
    values = open_session(made.SerializeToString()).run(None, {"x": np.ones((2, 1, 2, 2), np.float32)})[0]
    assert values.dtype == np.float32
    assert (values == 3).all()


def test_an_output_that_other_nodes_read_too():
    nodes = [helper.make_node("Mul", ["x", "w"], ["y"]), helper.make_node("Relu", ["y"], ["z"])]
    made = halved(model_of(nodes, {"w": [2.0]}, ["n", 1, 2, 2]))
    onnx.checker.check_model(made, full_check=True)


def test_weights_beyond_float16_are_refused():
    model = model_of([helper.make_node("Mul", ["x", "w"], ["y"])], {"w": [1e6]}, ["n", 1, 2, 2])
    with pytest.raises(UnsupportedModel, match=r"w holds 1e\+06, but float16 ends at 65504"):
        halved(model)


def answers(model, values):
    return open_session(model.SerializeToString(), 1).run(None, {"x": np.full((1, 1, 2, 2), values, np.float32)})[0]


def kinds(model):
    """The type of every value of a model."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    return {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)}


BIG = [
    helper.make_node("Mul", ["x", "w"], ["large"], "up"),
    helper.make_node("Relu", ["large"], ["positive"], "keep"),
    helper.make_node("Mul", ["positive", "v"], ["small"], "down"),
    helper.make_node("Add", ["small", "w"], ["y"], "last"),
]


def test_values_beyond_float16_stay_float32_from_their_maker_to_their_readers_and_are_named():
    model = model_of(BIG, {"w": [5e4], "v": [1e-4]}, ["n", 1, 2, 2])
    beyond = dict(beyond_half({"large": (-1.0, 2e5), "positive": (0.0, 2e5), "small": (0.0, 20.0), "x": (-LARGEST, 4)}))
    kept = kept_whole(model, beyond)
    assert set(kept) == {"large", "positive", "small"}
    assert kept["positive"] == "Relu keep has values up to 2e+05; float16 ends at 65504"
    made = halved(model, kept)
    onnx.checker.check_model(made, full_check=True)
    np.testing.assert_allclose(answers(made, 4), answers(model, 4), rtol=1e-3)
    assert {name for name, kind in kinds(made).items() if kind == TensorProto.FLOAT16} == {
        "small_float16", "y_float16",
    }  # fmt: skip
    stored = {tensor.name: tensor.data_type for tensor in made.graph.initializer}
    assert stored == {"w": TensorProto.FLOAT, "w_float16": TensorProto.FLOAT16, "v": TensorProto.FLOAT}


def test_sums_of_squares_stay_float32():
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["a"]),
        helper.make_node("ReduceL2", ["a"], ["length"], "norm"),
        helper.make_node("Div", ["a", "length"], ["y"]),
    ]
    model = model_of(nodes, {"w": [300.0]}, ["n", 1, 2, 2])
    kept = kept_whole(model, {})
    assert kept == {"length": "ReduceL2 adds up what float16 may not hold"}
    made = halved(model, kept)
    onnx.checker.check_model(made, full_check=True)
    assert kinds(made)["length"] == TensorProto.FLOAT
    np.testing.assert_allclose(answers(made, 2), answers(model, 2), rtol=1e-3)


@pytest.mark.parametrize(
    ("large", "back", "given"),
    [
        (helper.make_node("Exp", ["x"], ["large"]), helper.make_node("Log", ["large"], ["y"]), 12),
        (helper.make_node("Pow", ["x", "two"], ["large"]), helper.make_node("Sqrt", ["large"], ["y"]), 300),
    ],
)
def test_powers_stay_float32(large, back, given):
    model = model_of([large, back], {"two": 2.0}, ["n", 1, 2, 2])
    kept = kept_whole(model, {})
    assert set(kept) == {"large"}
    assert kinds(halved(model, kept))["large"] == TensorProto.FLOAT


def test_a_constant_among_the_nodes_is_rounded_like_a_stored_one():
    value = numpy_helper.from_array(np.float32([0.1]))
    nodes = [helper.make_node("Constant", [], ["w"], value=value), helper.make_node("Mul", ["x", "w"], ["y"])]
    made = halved(model_of(nodes, {}, ["n", 1, 2, 2]))
    onnx.checker.check_model(made, full_check=True)
    assert [tensor.data_type for tensor in made.graph.initializer] == [TensorProto.FLOAT16]


def rounded_weights(scales, integers, zero=0, axis=0):
    """A product of the input and stored integers of several scales."""
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], axis=axis),
        helper.make_node("Mul", ["x", "w"], ["y"]),
    ]
    model = model_of(nodes, {"s": scales}, ["n", len(integers), 2, 2])
    values = np.broadcast_to(np.array(integers, np.int8).reshape(-1, 1, 1), (len(integers), 2, 2))
    for name, value in (("q", values), ("z", np.full(len(scales), zero, np.int8))):
        model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
    return model


@pytest.mark.parametrize("zero", [0, 5])
def test_a_scale_too_small_for_float16_is_raised_and_its_integers_shrink(zero):
    step = 2.0**-24  # the smallest number of float16
    scales = [step / 4, 2.5 * step, 1e-9, 0.5]
    made = halved(rounded_weights(scales, [100 + zero, 100 + zero, -99, 77], zero))
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    np.testing.assert_array_equal(stored["s"], np.float16([step, 3 * step, step, 0.5]))
    np.testing.assert_array_equal(stored["q"][:, 0, 0], [25 + zero, 83 + zero, -2 + zero, 77])
    onnx.checker.check_model(made, full_check=True)


def test_scales_that_float16_holds_leave_the_integers_as_they_are():
    made = halved(rounded_weights([0.0123, 7e-5], [127, -127]))
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    np.testing.assert_array_equal(stored["q"][:, 0, 0], [127, -127])


def test_a_value_is_rounded_and_restored_by_the_same_raised_scale():
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"]),
        helper.make_node("Mul", ["w", "f"], ["y"]),
    ]
    model = model_of(nodes, {"s": 1e-9, "f": 2.0}, ["n", 1, 2, 2])
    model.graph.initializer.append(numpy_helper.from_array(np.int8(0), "z"))
    made = halved(model, ["w"])
    stored = {tensor.name: float(numpy_helper.to_array(tensor)) for tensor in made.graph.initializer}
    assert stored["s"] == stored["s_float16"] == 2.0**-24
