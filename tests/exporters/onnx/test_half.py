"""Files in float16: half the size, the same ends."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecr.core.errors import UnsupportedModel
from edgecr.exporters.onnx.half import halved
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
