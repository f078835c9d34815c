from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_device import quick_device

from edgecr.runners.base import Device


def write_onnx(path: Path, channels: int = 4, batch: int | str = "N") -> Path:
    """A convolution and a pooling with fixed weights."""
    weights = np.linspace(-1, 1, channels * 27, dtype=np.float32).reshape(channels, 3, 3, 3)
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("GlobalAveragePool", ["c"], ["y"])]
    graph = helper.make_graph(
        nodes, "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, channels, 1, 1])],
        [numpy_helper.from_array(weights, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


@pytest.fixture
def models(tmp_path: Path) -> dict[str, Path]:
    return {"baseline": write_onnx(tmp_path / "a.onnx", 8), "candidate": write_onnx(tmp_path / "b.onnx", 4)}


@pytest.fixture
def quick() -> Device:
    return quick_device()
