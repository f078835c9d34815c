"""A stub of trtexec for tests: ONNX Runtime on this processor answers and times, and everything says so.

Its "engine" carries the ONNX file. It takes the flags that the real one takes in the version that it plays, as read in
the options of NVIDIA's public source for each release, and refuses all others in the real one's words.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time

STUB = "STUB (ONNX Runtime on a processor, no TensorRT)"
MAGIC = b"STUB ENGINE\n"
# Flags with the first release that knows them, and the first that does not.
ALWAYS = (0, 1000)
FLAGS = {
    "onnx": ALWAYS,
    "saveEngine": ALWAYS,
    "loadEngine": ALWAYS,
    "timingCacheFile": (8.0, 1000),
    "workspace": (0, 10.0),
    "memPoolSize": (8.4, 1000),
    "buildOnly": (0, 10.0),
    "skipInference": (8.6, 1000),
    "streams": ALWAYS,
    "infStreams": (8.6, 1000),
    "stronglyTyped": (9.3, 1000),
    "fp16": (0, 11.0),
    "int8": (0, 11.0),
    "noTF32": ALWAYS,
    "sparsity": (8.0, 1000),
    "minShapes": ALWAYS,
    "optShapes": ALWAYS,
    "maxShapes": ALWAYS,
    "shapes": ALWAYS,
    "useDLACore": ALWAYS,
    "allowGPUFallback": ALWAYS,
    "profilingVerbosity": (8.2, 1000),
    "noDataTransfers": ALWAYS,
    "useSpinWait": ALWAYS,
    "useCudaGraph": ALWAYS,
    "warmUp": ALWAYS,
    "duration": ALWAYS,
    "iterations": ALWAYS,
    "exportTimes": ALWAYS,
    "exportProfile": ALWAYS,
    "exportLayerInfo": (8.2, 1000),
    "separateProfileRun": ALWAYS,
    "includeDataTransfers": (11.0, 1000),
    "loadInputs": ALWAYS,
    "exportOutput": ALWAYS,
}


def release(digits: str) -> float:
    """8502 -> 8.05, so that 8.10 would come after 8.9; only used to compare."""
    number = int(digits)
    major, minor = (number // 10000, number // 100 % 100) if len(digits) > 4 else (number // 1000, number // 100 % 10)
    return major + minor / 100


def known(flag: str, digits: str) -> bool:
    since, until = (int(str(end).split(".")[0]) + int((str(end) + ".0").split(".")[1]) / 100 for end in FLAGS[flag])
    return since <= release(digits) < until


class Stub:
    """One run."""

    def __init__(self, arguments: list[str]) -> None:
        self.digits = os.environ.get("STUB_VERSION", "100300")
        self.mode = os.environ.get("STUB_MODE", "")
        self.arguments = arguments
        self.flags = dict(one.removeprefix("--").partition("=")[::2] for one in arguments)

    def say(self, text: str, level: str = "I") -> None:
        print(f"[11/30/2026-10:00:00] [{level}] {text}", flush=True)

    def banner(self, word: str) -> None:
        print(
            f"&&&& {word} TensorRT.trtexec [TensorRT v{self.digits}] [b1] # trtexec {' '.join(self.arguments)}",
            flush=True,
        )

    def fail(self, *errors: str) -> int:
        for error in errors:
            self.say(error, "E")
        self.banner("FAILED")
        return 1

    def run(self) -> int:
        self.banner("RUNNING")
        unknown = [flag for flag in self.flags if flag not in FLAGS or not known(flag, self.digits)]
        if self.mode == "unknown" and "saveEngine" in self.flags:
            unknown = ["newFlag"]
        if unknown:
            return self.fail(*(f"Unknown option: --{flag} {self.flags.get(flag, '')}" for flag in unknown))
        self.say("=== Device Information ===")
        self.say(f"Selected Device: {STUB}")
        self.say("Compute Capability: 8.7")
        self.say(f"{STUB}: its times and answers say nothing of any board", "W")
        return self.build() if "saveEngine" in self.flags else self.infer()

    def build(self) -> int:
        time.sleep(float(os.environ.get("STUB_BUILD_S", "0")))
        if self.mode == "oom":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.mode == "parser":
            return self.fail("ModelImporter.cpp:949: ERROR: unsupported opset 23", "Failed to parse onnx file")
        with open(self.flags["onnx"], "rb") as file:
            model = file.read()
        with open(self.flags["saveEngine"], "wb") as file:
            file.write(MAGIC + self.digits.encode() + b"\n" + model)
        with open(self.flags["timingCacheFile"], "ab") as file:
            file.write(b"timing\n")
        self.say(f"Engine built in {float(os.environ.get('STUB_BUILD_S', '0')) + 0.5} sec.")
        self.say(f"Created engine with size: {len(model) / 2**20:g} MiB")
        self.banner("PASSED")
        return 0

    def infer(self) -> int:
        try:
            with open(self.flags["loadEngine"], "rb") as file:
                magic, digits, model = file.read().split(b"\n", 2)
        except OSError:
            return self.fail(f"Error opening engine file: {self.flags['loadEngine']}", "Engine set up failed")
        if magic + b"\n" != MAGIC or digits.decode() != self.digits or self.mode == "other driver":
            return self.fail(
                "Error Code 6: API Usage Error (The engine plan file is not compatible with this version of TensorRT)",
                "Engine deserialization failed",
            )
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        import numpy as np  # late: they take a second, and a build needs neither
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.say("Engine deserialized in 0.025 sec.")
        self.say("Created execution context with device memory size: 1.5 MiB")
        one = session.get_inputs()[0]
        shape = [size if isinstance(size, int) else 1 for size in one.shape]
        if "shapes" in self.flags:
            name, _, dims = self.flags["shapes"].rpartition(":")
            assert name == one.name
            shape = [int(size) for size in dims.split("x")]
        feed = np.zeros(shape, np.float32)
        if "loadInputs" in self.flags:
            name, _, place = self.flags["loadInputs"].partition(":")
            feed = np.fromfile(place, np.float32).reshape(shape)
        self.time(session, {one.name: feed}, model)
        self.banner("PASSED")
        return 0

    def time(self, session, feed, model: bytes) -> None:
        """Calls for as long as asked, and writes what is asked for; before 8.5 the warm-up is written too."""
        seconds, warm = float(self.flags.get("duration", "3")), float(self.flags.get("warmUp", "200"))
        least, queries = int(self.flags.get("iterations", "10")), []
        warmed = [{"startComputeMs": 0.5 * warm, "computeMs": 77.0}] if release(self.digits) < 8.05 else []
        start = time.perf_counter()
        while time.perf_counter() - start < seconds or len(queries) < least:
            before = time.perf_counter()
            outputs = [-values if self.mode == "wrong" else values for values in session.run(None, feed)]
            spent = (time.perf_counter() - before) * 1e3
            began = warm + (before - start) * 1e3
            queries.append({"startComputeMs": began, "computeMs": spent, "latencyMs": spent})
        wall = time.perf_counter() - start
        self.say(f"Warmup completed 1 queries over {warm:g} ms")
        self.say(f"Timing trace has {len(queries)} queries over {wall:g} s")
        self.say(f"Throughput: {len(queries) / wall:g} qps")
        self.say(f"Total Host Walltime: {wall:g} s")
        if os.environ.get("STUB_UNSTABLE"):
            self.say("* GPU compute time is unstable, with coefficient of variance = 5.55763%.", "W")
        self.write("exportTimes", warmed + queries)
        mean = sum(query["computeMs"] for query in queries) / len(queries)
        self.write("exportProfile", self.profile(model, mean, len(queries)))
        self.write("exportLayerInfo", self.layers(model))
        names = [one.name for one in session.get_outputs()]
        self.write(
            "exportOutput",
            [
                {"name": name, "dimensions": "x".join(map(str, value.shape)), "values": value.ravel().tolist()}
                for name, value in zip(names, outputs)
            ],
        )

    def write(self, flag: str, value: object) -> None:
        if flag in self.flags:
            with open(self.flags[flag], "w") as file:
                json.dump(value, file)

    def names(self, model: bytes) -> list[str]:
        import onnx

        nodes = onnx.ModelProto.FromString(model).graph.node
        return ["Reformatting CopyNode for Input Tensor 0", *(node.op_type for node in nodes)]

    def profile(self, model: bytes, mean: float, count: int) -> list[dict]:
        names = self.names(model)
        return [{"count": count}] + [
            {"name": name, "timeMs": mean * count / len(names), "averageMs": mean / len(names), "percentage": 1}
            for name in names
        ]

    def layers(self, model: bytes) -> dict:
        """In the form of version 10, or in that of version 11."""
        newer = release(self.digits) >= 11
        ends = (
            [{"Name": "t", "Format": "Row major linear", "Datatype": "Half"}]
            if newer
            else [{"Name": "t", "Format/Datatype": "Row major linear FP16 format"}]
        )
        found = [
            {"Name": name, "LayerType": "Reformat" if "Reformat" in name else "CaskConvolution", "Inputs": ends}
            for name in self.names(model)
        ]
        return {"Layers": found, ("I/O Tensors" if newer else "Bindings"): []}


if __name__ == "__main__":
    sys.exit(Stub(sys.argv[1:]).run())
