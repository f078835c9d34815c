"""Measures the difference between the agent's p50 and that of a bare loop.

Twice: on one and the same onnxruntime session, the agent's rounds and a bare loop taking turns (what its
clock readings, counters and events cost), and as the whole agent against a bare loop in a process of its own
(what the supervisor beside it costs). The goal of both: within 3 %. The second is judged only from pairs of
runs that had the processor to themselves (run-queue wait below 3 %), because separate processes cannot be
compared on a busy machine.
"""

from __future__ import annotations

import importlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from _common import Goal, arguments, finish, interleaved, paired_ratio, table
from onnx import TensorProto, helper, numpy_helper

from edgecr.runners.agent.archive import agent_archive
from edgecr.runners.base import Arm, MeasurePlan, load_device, runner_for
from edgecr.runners.device import Protocol
from edgecr.runners.measurement.summary import summarise

WIDTHS = (64, 128, 256, 512)
CALM = 0.03
LEAST_PAIRS = 3

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
run, wait = map(int, open("/proc/self/schedstat").read().split()[:2])
print(json.dumps({"times": times[len(times) // 4:], "wait": wait / (run + wait)}))
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
        values = self.random.standard_normal((out, fan_in, kernel, kernel)).astype(np.float32) * np.float32(scale)
        self.weights.append(numpy_helper.from_array(values, f"w_{name}"))
        self.nodes.append(
            helper.make_node("Conv", [source, f"w_{name}"], [name], strides=[stride] * 2, pads=[kernel // 2] * 4)
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


def write_model(path: Path, size: int, widths: Sequence[int] = WIDTHS, blocks: int = 2) -> None:
    """An ONNX file with the convolutions of a residual network, by default of ResNet-18."""
    writer = Writer()
    here, channels = writer.plain("Relu", writer.conv("x", 3, widths[0])), widths[0]
    for width in widths:
        for number in range(blocks):
            here = writer.block(here, channels, width, 2 if number == 0 and width != widths[0] else 1)
            channels = width
    out = writer.plain("GlobalAveragePool", here)
    graph = helper.make_graph(
        writer.nodes,
        "resnet",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, size, size])],
        [helper.make_tensor_value_info(out, TensorProto.FLOAT, ["N", widths[-1], 1, 1])],
        writer.weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


def same_session(path: Path, rounds: int) -> tuple[list[float], list[float]]:
    """Round medians (ms) of the agent's own code and of a bare loop, taking turns on one session."""
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "agent.pyz"
        archive.write_bytes(agent_archive())
        sys.path.insert(0, str(archive))
        clock, measuring, ort = (
            importlib.import_module(f"edgecr_agent.{name}") for name in ("clock", "measuring", "runtimes.ort")
        )
        sys.path.remove(str(archive))
    ort.Ort.import_library()
    config = {"threads": 1, "spin": False, "providers": ["CPUExecutionProvider"]}
    runtime = ort.Ort(str(path), config, 1)
    call, feed = runtime.new_call(), ort.sample(runtime.inputs)
    warm = measuring.warm_up(call, clock.now, 0.02, 0.3, 5.0)
    count = measuring.per_round(warm["medians_ns"][-1], 0.15)

    def agent_round() -> float:
        events: list[list[int]] = []
        plan = {"seed": 0, "rounds": 1, "least_rounds": 1, "max_s": 60.0}
        measuring.rounds(
            [call],
            [count],
            plan,
            clock.now,
            clock.counters,
            clock.since,
            lambda event, **fields: events.append(fields["ns"]),
        )
        return statistics.median(events[0]) / 1e6

    def bare_round() -> float:
        times = []
        runtime.session.run(None, feed)
        for _ in range(count):
            start = time.perf_counter_ns()
            runtime.session.run(None, feed)
            times.append(time.perf_counter_ns() - start)
        return statistics.median(times) / 1e6

    found = interleaved({"agent": agent_round, "bare": bare_round}, rounds)
    return found["agent"], found["bare"]


def whole_agent(path: Path, seconds: float) -> tuple[float, float]:
    """The p50 (ms) of one launch of the agent, and the share of its time that it waited for a processor."""
    protocol = Protocol.parse(
        {
            "rounds": 10,
            "round_s": seconds / 10,
            "launches": 1,
            "warmup": {"window_s": 0.2, "max_s": 2.0},
        }
    )
    device = load_device("cpu").model_copy(update={"protocol": protocol})
    result = runner_for(device).measure(MeasurePlan((Arm("model", path),)))
    if result.error:
        raise SystemExit(result.error)
    times = [ns for one in result.launches[0].rounds for ns in one.ns]
    return statistics.median(times) / 1e6, summarise(result)[0].wait_share or 0.0


def bare_process(path: Path, seconds: float, size: int) -> tuple[float, float]:
    """The same of a bare loop in a process of its own; its first quarter is warm-up."""
    done = subprocess.run(
        [sys.executable, "-c", BARE, str(path), str(seconds), str(size)],
        check=True,
        capture_output=True,
        text=True,
    )
    found = json.loads(done.stdout)
    return statistics.median(found["times"]) / 1e6, found["wait"]


def main() -> int:
    """Runs the benchmark."""
    options = arguments(__doc__).parse_args()
    seconds, repeats, rounds, size = (1.0, 5, 30, 32) if options.quick else (3.0, 11, 60, 64)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "resnet18.onnx"
        write_model(path, size)
        agent, bare = same_session(path, rounds)
        pairs = [(whole_agent(path, seconds), bare_process(path, seconds * 4 / 3, size)) for _ in range(repeats)]
    calm = [(a, b) for (a, a_wait), (b, b_wait) in pairs if max(a_wait, b_wait) < CALM]
    rows = [
        [
            "one session",
            len(agent),
            statistics.median(agent),
            statistics.median(bare),
            paired_ratio(agent, bare),
        ]
    ]
    figures = {"same_session": abs(paired_ratio(agent, bare) - 1), "calm_pairs": len(calm), "pairs": repeats}
    goals = [Goal("same_session", at_most=0.03)]
    if len(calm) >= LEAST_PAIRS:
        whole, alone = [a for a, _ in calm], [b for _, b in calm]
        ratio = paired_ratio(whole, alone)
        rows.append(["two processes", len(calm), statistics.median(whole), statistics.median(alone), ratio])
        figures["whole_agent"] = abs(ratio - 1)
        goals.append(Goal("whole_agent", at_most=0.03))
    print(table(["compared on", "pairs", "agent p50 ms", "bare loop p50 ms", "ratio (median of pairs)"], rows))
    if len(calm) < LEAST_PAIRS:
        print(f"The whole agent is not judged: the machine was busy ({len(calm)} of {repeats} pairs were calm).")
    return finish("agent_overhead", figures, goals)


if __name__ == "__main__":
    sys.exit(main())
