"""A device whose sessions take a moment, and models for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgecr.runners.base import Device
from edgecr.runners.trust import vouched


def quick_device(**changes) -> Device:
    """This machine, measured only as long as a test needs."""
    values = {
        "name": "quick",
        "purpose": "tests",
        "kind": "cpu",
        "transport": {"kind": "local"},
        "protocol": {
            "launches": 2,
            "rounds": 3,
            "round_s": 0.005,
            "least_rounds": 1,
            "warmup": {"window_s": 0.002, "max_s": 0.1},
            "throughput": {"seconds": 0.01, "streams": [1, 2]},
        },
    }
    return vouched(Device.parse(values | changes))


def write_onnx(path: Path, channels: int = 4, batch: int | str = "N") -> Path:
    """A convolution and a pooling with fixed weights."""
    weights = np.linspace(-1, 1, channels * 27, dtype=np.float32).reshape(channels, 3, 3, 3)
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("GlobalAveragePool", ["c"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, channels, 1, 1])],
        [numpy_helper.from_array(weights, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path
