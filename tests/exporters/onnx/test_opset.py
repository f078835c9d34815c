"""Older opsets: every rule gives a file that answers alike, and what has no rule is refused by name."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecr.core.errors import UnsupportedModel
from edgecr.exporters.onnx.opset import RULES, lowered
from edgecr.predictors.onnx_file import opset_of
from edgecr.predictors.onnx_predictor import open_session

SHAPE = [2, 6, 5, 4]


def model_of(nodes, stored, opset=20, output=None) -> onnx.ModelProto:
    """Some nodes from ``x`` to ``y``."""
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE),
        helper.make_tensor_value_info("y", output or TensorProto.FLOAT, None),
    ]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    return onnx.shape_inference.infer_shapes(made)  # an output must have a shape


def single(op, *inputs, opset=20, output=None, outputs=("y",), name="", **given) -> onnx.ModelProto:
    """One operator that reads ``x`` and stored tensors; arrays among ``given`` are stored, the rest are attributes."""
    stored = {key: value for key, value in given.items() if isinstance(value, np.ndarray)}
    attributes = {key: value for key, value in given.items() if key not in stored}
    node = helper.make_node(op, ["x", *inputs], list(outputs), name, **attributes)
    return model_of([node], stored, opset, output)


def floats(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def ints(*values):
    return np.array(values, np.int64)


def answer(model):
    session = open_session(model.SerializeToString(), 1)
    return session.run(None, {"x": np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)})[0]


SCALE = {"s": np.float32([0.1, 0.2, 0.3, 0.1, 0.2, 0.3]), "z": np.zeros(6, np.int8)}

CASES = {
    "ReduceMean": single("ReduceMean", "a", a=ints(2, 3), keepdims=1),
    "ReduceMean of all": single("ReduceMean", keepdims=0),
    "ReduceMean of none": single("ReduceMean", "a", a=ints(), noop_with_empty_axes=1),
    "ReduceMax": single("ReduceMax", "a", a=ints(-1), keepdims=0),
    "ReduceMin": single("ReduceMin", "a", a=ints(1)),
    "ReduceL1": single("ReduceL1", "a", a=ints(1)),
    "ReduceL2": single("ReduceL2", "a", a=ints(1, 2)),
    "ReduceProd": single("ReduceProd", "a", a=ints(3)),
    "ReduceLogSumExp": single("ReduceLogSumExp", "a", a=ints(3)),
    "ReduceSumSquare": single("ReduceSumSquare", "a", a=ints(0)),
    "ReduceSum": single("ReduceSum", "a", a=ints(2)),
    "Split into equal parts": single("Split", num_outputs=2, axis=1, outputs=("y", "rest")),
    "Split with a smaller last part": single("Split", num_outputs=2, axis=2, outputs=("rest", "y")),
    "Split of the axis that is usual": single("Split", num_outputs=2, outputs=("y", "rest")),
    "Split by sizes": single("Split", "n", n=ints(4, 2), axis=1, outputs=("y", "rest")),
    "Resize by scales": single("Resize", "", "f", f=np.float32([1, 1, 2, 2]), mode="nearest", antialias=0),
    "Resize of some axes": single(
        "Resize", "", "", "n", n=ints(7, 9), axes=[2, 3], mode="linear", coordinate_transformation_mode="align_corners"
    ),
    "Reshape": single("Reshape", "n", n=ints(2, -1), allowzero=1),
    "Reshape that keeps": single("Reshape", "n", n=ints(0, -1), allowzero=0),
    "Pad of some axes": single("Pad", "n", "", "a", n=ints(1, 0, 2, 1), a=ints(2, 3), mode="reflect"),
    "Pad of all": single("Pad", "n", "c", n=ints(0, 0, 1, 1, 0, 0, 1, 1), c=np.array(3, np.float32)),
    "BatchNormalization": single(
        "BatchNormalization", *"abmv", a=floats(6), b=floats(6), m=floats(6), v=floats(6) ** 2, training_mode=0
    ),
    "Clip": single("Clip", "a", "b", a=np.array(0, np.float32), b=np.array(1, np.float32)),
    "AveragePool": single("AveragePool", kernel_shape=[2, 2], dilations=[1, 1], ceil_mode=1, strides=[2, 2]),
    "MaxPool": single("MaxPool", opset=22, kernel_shape=[2, 2], ceil_mode=1, strides=[2, 2]),
    "Conv": single("Conv", "w", opset=22, w=floats(4, 6, 3, 3)),
    "Unsqueeze": single("Unsqueeze", "a", opset=21, a=ints(0)),
    "Gelu": single("Gelu"),
    "Gelu by tanh": single("Gelu", approximate="tanh"),
    "HardSwish": single("HardSwish"),
    "Mish": single("Mish"),
    "LayerNormalization": single("LayerNormalization", "a", "b", a=floats(5, 4), b=floats(5, 4), axis=2),
    "LayerNormalization without bias": single("LayerNormalization", "a", a=floats(4)),
    "Shape": single("Shape", output=TensorProto.INT64),
    "Shape in part": single("Shape", start=1, end=-1, output=TensorProto.INT64),
    "Shape from": single("Shape", start=1, output=TensorProto.INT64),
    "Cast": single("Cast", to=TensorProto.INT32, output=TensorProto.INT32, saturate=1),
    "QuantizeLinear of each channel": single("QuantizeLinear", "s", "z", axis=1, output=TensorProto.INT8, **SCALE),
    "Identity": single("Identity"),
    "LeakyRelu": single("LeakyRelu"),
}


@pytest.mark.parametrize("opset", [17, 13])
@pytest.mark.parametrize("case", CASES)
def test_the_older_file_answers_alike(case, opset):
    newer = CASES[case]
    older = lowered(newer, opset)
    onnx.checker.check_model(older, full_check=True)
    assert (opset_of(older), older.ir_version) == (opset, {17: 8, 13: 7}[opset])
    np.testing.assert_allclose(answer(older), answer(newer), rtol=1e-5, atol=1e-6)


def test_every_rule_has_a_case():
    shown = {node.op_type for model in CASES.values() for node in model.graph.node}
    assert RULES.keys() - shown == {"ReduceLogSum"}  # the same rule as the other reductions; of negative sums it is NaN


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (single("GridSample", "g", g=floats(2, 3, 3, 2), name="there"), "GridSample there has no form there"),
        (single("Pad", "n", n=ints(0, 0, 1, 1, 0, 0, 1, 1), mode="wrap"), "Pad y wraps around"),
        (single("AveragePool", kernel_shape=[2, 2], dilations=[2, 2]), r"AveragePool y has dilations=\[2, 2\]"),
        (single("Resize", "", "f", f=np.float32([1, 1, 0.5, 0.5]), mode="linear", antialias=1), "antialias=1"),
        (single("Reshape", "n", n=ints(0, 6, 5, 4), allowzero=1), "an axis of length zero"),
        (single("Trilu"), "Trilu y has no form there that EdgeCR knows"),
    ],
)
def test_what_cannot_be_said_there_is_refused_by_name(model, told):
    with pytest.raises(UnsupportedModel, match=f"{told}.*cannot be written in ONNX opset 13"):
        lowered(model, 13)


def test_a_layer_is_named_by_its_weight():
    odd = single("DeformConv", "features.3.weight", "offset", **{"features.3.weight": floats(4, 6, 3, 3)})
    with pytest.raises(UnsupportedModel, match=r"DeformConv y with the weights of layer features\.3 has no form there"):
        lowered(odd, 17)


def test_axes_that_the_image_decides_are_refused():
    nodes = [helper.make_node("Shape", ["x"], ["s"]), helper.make_node("ReduceMean", ["x", "s"], ["y"], "mean")]
    with pytest.raises(UnsupportedModel, match="ReduceMean mean computes its input 2 from the image"):
        lowered(model_of(nodes, {}), 17)


def test_operators_that_a_runtime_lacks_are_put_into_simpler_ones():
    newer = CASES["LayerNormalization"]
    for opset in (20, 17):
        simpler = lowered(newer, opset, without={"LayerNormalization"})
        onnx.checker.check_model(simpler, full_check=True)
        assert "LayerNormalization" not in {node.op_type for node in simpler.graph.node}
        np.testing.assert_allclose(answer(simpler), answer(newer), rtol=1e-5, atol=1e-6)


def test_the_given_model_stays_as_it_was():
    newer = CASES["Reshape"]
    before = newer.SerializeToString(deterministic=True)
    lowered(newer, 13)
    assert newer.SerializeToString(deterministic=True) == before
