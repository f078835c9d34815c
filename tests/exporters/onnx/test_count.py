from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecr.core.errors import FileProblem, UnsupportedModel
from edgecr.exporters.onnx.count import count_onnx, zero_channels
from edgecr.exporters.receipt import channels, weights


def save(path, nodes, stored, inputs=(3, 8, 8), output=None):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in stored.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path


def test_the_three_layers_counted_by_hand(exported):
    counted = count_onnx(exported[1].path)
    assert [layer.weight_shape for layer in counted.layers] == [(8, 3, 3, 3), (6, 8, 3, 3), (5, 6)]
    assert [layer.out_positions for layer in counted.layers] == [64, 16, 1]
    assert [layer.macs for layer in counted.layers] == [64 * 216, 16 * 432, 30]
    assert counted.macs == 64 * 216 + 16 * 432 + 30
    assert weights(counted) == 216 + 432 + 30
    assert channels(counted) == 8 + 6 + 5
    assert counted.params == 216 + 8 + 432 + 6 + 30 + 5
    assert counted.size_bytes == exported[1].path.stat().st_size


def test_grouped_depthwise_and_transposed_convolutions(tmp_path):
    path = save(
        tmp_path / "m.onnx",
        [
            helper.make_node("Conv", ["x", "depth.weight"], ["a"], group=4, pads=[1, 1, 1, 1]),
            helper.make_node("Conv", ["a", "grouped.weight"], ["b"], group=2),
            helper.make_node("ConvTranspose", ["b", "up.weight"], ["y"], group=2, strides=[2, 2]),
        ],
        {
            "depth.weight": np.ones((4, 1, 3, 3)),
            "grouped.weight": np.ones((6, 2, 1, 1)),
            "up.weight": np.ones((6, 5, 2, 2)),
        },
        inputs=(4, 8, 8),
    )
    counted = count_onnx(path)
    assert [layer.groups for layer in counted.layers] == [4, 2, 2]
    assert [layer.macs for layer in counted.layers] == [64 * 36, 64 * 12, 64 * 120]
    assert [layer.out_positions for layer in counted.layers] == [64, 64, 64]
    assert channels(counted) == 4 + 6 + 10


def test_linear_layers_in_every_dress(tmp_path):
    path = save(
        tmp_path / "m.onnx",
        [
            helper.make_node("Gemm", ["x", "a.weight"], ["a"], transB=1),
            helper.make_node("Gemm", ["a", "b.weight"], ["b"]),
            helper.make_node("Transpose", ["c.weight"], ["ct"], perm=[1, 0]),
            helper.make_node("MatMul", ["b", "ct"], ["c"]),
            helper.make_node("Constant", [], ["d.weight"], value=numpy_helper.from_array(np.ones((7, 2), np.float32))),
            helper.make_node("MatMul", ["c", "d.weight"], ["y"]),
        ],
        {"a.weight": np.ones((5, 3)), "b.weight": np.ones((5, 6)), "c.weight": np.ones((7, 6))},
        inputs=(3,),
    )
    counted = count_onnx(path)
    assert [layer.weight_shape for layer in counted.layers] == [(5, 3), (6, 5), (7, 6), (2, 7)]
    assert [layer.macs for layer in counted.layers] == [15, 30, 42, 14]
    assert [layer.name for layer in counted.layers] == ["a", "b", "c", "d"]


def test_activations_times_activations_hold_no_weights(tmp_path):
    path = save(tmp_path / "m.onnx", [helper.make_node("MatMul", ["x", "x"], ["y"])], {}, inputs=(4, 4))
    counted = count_onnx(path)
    assert (counted.layers, counted.macs, counted.params) == ((), 0, 0)


def test_a_linear_layer_on_tokens_works_once_for_each(tmp_path):
    path = save(
        tmp_path / "m.onnx",
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"w": np.ones((4, 6))},
        inputs=(9, 4),
    )
    [layer] = count_onnx(path).layers
    assert (layer.weight_shape, layer.out_positions, layer.macs) == ((6, 4), 9, 9 * 24)


def test_a_shared_weight_counts_once_and_works_twice(tmp_path):
    path = save(
        tmp_path / "m.onnx",
        [
            helper.make_node("Conv", ["x", "w"], ["a"]),
            helper.make_node("Conv", ["a", "w"], ["y"]),
        ],
        {"w": np.ones((3, 3, 1, 1))},
    )
    counted = count_onnx(path)
    assert [layer.macs for layer in counted.layers] == [64 * 9, 64 * 9]
    assert weights(counted) == counted.params == 9


def test_zero_channels_are_found_in_every_kind(tmp_path):
    conv, up, turned, straight = (
        np.ones((4, 3, 1, 1)),
        np.ones((4, 3, 2, 2)),
        np.ones((6, 5)),
        np.ones((4, 5)),
    )
    conv[1], up[:2, 2], turned[:, :2], straight[3] = 0, 0, 0, 0
    path = save(
        tmp_path / "m.onnx",
        [
            helper.make_node("Conv", ["x", "conv.weight"], ["a"]),
            helper.make_node("ConvTranspose", ["a", "up.weight"], ["b"], group=2),
            helper.make_node("GlobalAveragePool", ["b"], ["c"]),
            helper.make_node("Flatten", ["c"], ["d"]),
            helper.make_node("MatMul", ["d", "turned.weight"], ["e"]),
            helper.make_node("Gemm", ["e", "straight.weight"], ["y"], transB=1),
        ],
        {"conv.weight": conv, "up.weight": up, "turned.weight": turned, "straight.weight": straight},
    )
    assert zero_channels(path) == {"conv": 1, "up": 1, "turned": 2, "straight": 1}


def test_layers_hidden_in_a_branch_are_refused(tmp_path):
    out = helper.make_tensor_value_info("z", TensorProto.FLOAT, None)
    branch = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["z"])], "b", [], [out])
    path = save(
        tmp_path / "m.onnx",
        [
            helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True))),
            helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch),
        ],
        {"w": np.ones((3, 3, 1, 1))},
    )
    with pytest.raises(UnsupportedModel, match=r"If .* hides layers"):
        count_onnx(path)


def test_work_that_cannot_be_inferred_is_refused(tmp_path):
    path = save(
        tmp_path / "m.onnx",
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        {"w": np.ones((3, 3, 1, 1))},
        inputs=(3, "h", "w"),
    )
    with pytest.raises(UnsupportedModel, match="cannot be inferred"):
        count_onnx(path)


def test_a_truncated_file_is_a_file_problem(exported, tmp_path):
    content = exported[1].path.read_bytes()
    path = tmp_path / "cut.onnx"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(FileProblem, match="not an ONNX file, or it is cut short"):
        count_onnx(path)


def test_operators_of_integers_are_counted_and_zero_is_their_zero_point(tmp_path):
    weight = np.full((4, 3, 3, 3), 7, np.uint8)
    weight[1] = 5
    stored = {
        "s": np.float32(0.1), "z": np.uint8(0), "five": np.uint8(5), "zero": np.int8(0), "a.weight": weight,
        "a.bias": np.zeros(4, np.int32), "b.weight": np.ones((4, 2), np.int8),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("QLinearConv", ["q", "s", "z", "a.weight", "s", "five", "s", "z", "a.bias"], ["c"]),
        helper.make_node("DequantizeLinear", ["c", "s", "z"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("DequantizeLinear", ["b.weight", "s", "zero"], ["w"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items()],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    counted = count_onnx(path)
    assert [(layer.name, layer.weight_shape, layer.macs) for layer in counted.layers] == [
        ("a", (4, 3, 3, 3), 36 * 108),
        ("b", (2, 4), 8),
    ]
    assert counted.params == 108 + 4 + 8
    assert zero_channels(path) == {"a": 1}
