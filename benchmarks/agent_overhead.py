"""How far the agent's p50 lies from a bare loop over the same onnxruntime session settings.

A small ResNet-18 (convolutions 3x3 with residual additions) is measured by the agent and by a bare loop in
a process of its own, in turn, several times; compared are the medians of the p50s. The goal: within 3 %.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from _common import Goal, arguments, finish, interleaved, table
from onnx import TensorProto, helper, numpy_helper

from edgecr.runners.base import Arm, MeasurePlan, load_device, runner_for
from edgecr.runners.device import Protocol

WIDTHS = (64, 128, 256, 512)

BARE = """
import os, sys, time, json
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
size = int(sys.argv[3])
feed = {"x": numpy.random.RandomState(0).rand(1, 3, size, size).astype("float32")}
times = []
end = time.perf_counter() + float(sys.argv[2])
while time.perf_counter() < end:
    start = time.perf_counter_ns()
    session.run(None, feed)
    times.append(time.perf_counter_ns() - start)
print(json.dumps(times[len(times) // 4:]))
"""


class Writer:
    """Builds a ResNet-like graph node by node."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.random = np.random.default_rng(0)

    def conv(self, source: str, fan_in: int, out: int, stride: int = 1, kernel: int = 3) -> str:
        """A convolution with random weights; returns the name of its output."""
        name = f"t{len(self.nodes)}"
        scale = (2 / (fan_in * kernel**2)) ** 0.5
        values = self.random.standard_normal((out, fan_in, kernel, kernel)).astype(np.float32) * np.float32(
            scale
        )
        self.weights.append(numpy_helper.from_array(values, f"w_{name}"))
        self.nodes.append(
            helper.make_node(
                "Conv", [source, f"w_{name}"], [name], strides=[stride] * 2, pads=[kernel // 2] * 4
            )
        )
        return name

    def plain(self, operation: str, *sources: str) -> str:
        """A node without weights; returns the name of its output."""
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, list(sources), [name]))
        return name

    def block(self, source: str, fan_in: int, out: int, stride: int) -> str:
        """A basic residual block."""
        body = self.conv(self.plain("Relu", self.conv(source, fan_in, out, stride)), out, out)
        short = source if fan_in == out and stride == 1 else self.conv(source, fan_in, out, stride, kernel=1)
        return self.plain("Relu", self.plain("Add", body, short))


def write_model(path: Path, size: int) -> None:
    """An ONNX file with the convolutions of ResNet-18."""
    writer = Writer()
    here, channels = writer.plain("Relu", writer.conv("x", 3, WIDTHS[0])), WIDTHS[0]
    for width in WIDTHS:
        for number in range(2):
            here = writer.block(here, channels, width, 2 if number == 0 and width != WIDTHS[0] else 1)
            channels = width
    out = writer.plain("GlobalAveragePool", here)
    graph = helper.make_graph(
        writer.nodes,
        "resnet18",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, size, size])],
        [helper.make_tensor_value_info(out, TensorProto.FLOAT, ["N", WIDTHS[-1], 1, 1])],
        writer.weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


def agent_p50(path: Path, seconds: float) -> float:
    """The p50 (ms) of one launch of the agent: its raw samples, whatever the state of the machine."""
    protocol = Protocol.parse(
        {"rounds": 10, "round_s": seconds / 10, "launches": 1, "warmup": {"window_s": 0.2, "max_s": 2.0}}
    )
    device = load_device("cpu").model_copy(update={"protocol": protocol})
    result = runner_for(device).measure(MeasurePlan((Arm("model", path),)))
    if result.error:
        raise SystemExit(result.error)
    return statistics.median(ns for one in result.launches[0].rounds for ns in one.ns) / 1e6


def bare_p50(path: Path, seconds: float, size: int) -> float:
    """The p50 (ms) of a bare loop; its first quarter is warm-up."""
    done = subprocess.run(
        [sys.executable, "-c", BARE, str(path), str(seconds), str(size)],
        check=True,
        capture_output=True,
        text=True,
    )
    return statistics.median(json.loads(done.stdout)) / 1e6


def main() -> int:
    """Runs the benchmark."""
    options = arguments(__doc__).parse_args()
    seconds, repeats, size = (1.5, 5, 32) if options.quick else (4.0, 9, 64)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "resnet18.onnx"
        write_model(path, size)
        samples = interleaved(
            {
                "agent": lambda: agent_p50(path, seconds),
                "bare loop": lambda: bare_p50(path, seconds * 4 / 3, size),
            },
            repeats,
        )
    medians = {name: statistics.median(values) for name, values in samples.items()}
    rows = [[name, medians[name], min(values), max(values)] for name, values in samples.items()]
    print(table(["measured by", "p50 ms (median of runs)", "lowest", "highest"], rows))
    ratio = medians["agent"] / medians["bare loop"]
    figures = {
        "agent_p50_ms": medians["agent"],
        "bare_p50_ms": medians["bare loop"],
        "ratio": ratio,
        "deviation": abs(ratio - 1),
    }
    return finish("agent_overhead", figures, [Goal("deviation", at_most=0.03)])


if __name__ == "__main__":
    sys.exit(main())
