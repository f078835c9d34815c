"""ONNX Runtime."""

import json
import os
import re
import sys
from typing import Any, Callable, Dict, List, Optional, Tuple

from .. import jetson
from .base import DTYPES, Runtime, RuntimeProblem, batched, import_or_explain, sample

# The newest versions that have aarch64 wheels for each Python, as tried.
PINNED = {
    (3, 6): '"onnxruntime==1.10.0" "numpy==1.19.5" "protobuf==3.19.6"',
    (3, 7): '"onnxruntime==1.14.1" "numpy==1.21.6"',
    (3, 8): '"onnxruntime==1.19.2" "numpy==1.24.4"',
    (3, 10): '"onnxruntime==1.23.2" "numpy==2.2.6"',
}
JETSON_INDEX = "https://pypi.jetson-ai-lab.io/jp6/cu126"
KERNEL = "_kernel_time"  # what the profiler adds to the name of a node for the time of its computation


class Ort(Runtime):
    """ONNX Runtime."""

    whole_batches = False

    @staticmethod
    def import_library() -> None:
        """Imports onnxruntime with its telemetry (on by default since 1.29) switched off."""
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        import_or_explain("onnxruntime", PINNED.get(sys.version_info[:2], "onnxruntime numpy"))

    @staticmethod
    def on_processor(config: Dict[str, Any]) -> bool:
        """True with the processor's provider alone."""
        return list(config["providers"]) == ["CPUExecutionProvider"]

    def __init__(self, path: str, config: Dict[str, Any], batch: int) -> None:
        import onnxruntime

        providers = list(config["providers"])
        available = onnxruntime.get_available_providers()
        missing = [name for name in providers if name not in available]
        if missing:
            raise RuntimeProblem(
                "This onnxruntime has no %s, only %s. Install a build that has it%s, or change "
                "runtimes.ort.providers." % (", ".join(missing), ", ".join(available), where_to_get(jetson.release()))
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = config["threads"]
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if config["spin"] else "0")
        if config.get("profile"):
            options.enable_profiling, options.profile_file_prefix = True, config["profile"]
        entries = config.get("entries") or {}
        for key, value in entries.items():
            options.add_session_config_entry(key, value)
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=providers)
        except Exception as error:  # onnxruntime has an exception class for each kind of failure
            raise RuntimeProblem(explain_load(str(error), onnxruntime.__version__))
        used = self.session.get_providers()
        if used[0] != providers[0]:
            raise RuntimeProblem(
                "onnxruntime fell back to %s instead of %s: its build does not fit the board's libraries. Install one "
                "that does%s, or change runtimes.ort.providers."
                % (used[0], providers[0], where_to_get(jetson.release()))
            )
        self.info = {
            "runtime": "onnxruntime",
            "version": onnxruntime.__version__,
            "providers": used,
            "threads": config["threads"],
            "spin": config["spin"],
        }
        if entries:
            self.info["entries"] = entries
        self.inputs = [
            (one.name, batched(one.name, one.shape, batch), DTYPES[element(one.type)])
            for one in self.session.get_inputs()
        ]

    def new_call(self) -> Callable[[], Any]:
        """One inference on its own input; several calls may run at once on the one session."""
        feed, run = sample(self.inputs), self.session.run
        return lambda: run(None, feed)

    def layers(self, calls: int) -> List[Dict[str, Any]]:
        """The time of every node, from ONNX Runtime's own profiler."""
        call = self.new_call()
        for _ in range(calls):
            call()
        with open(self.session.end_profiling(), encoding="utf-8") as file:
            return node_times(json.load(file))

    def answer(self, images: Any) -> Dict[str, Any]:
        """The outputs that are tensors."""
        names = [output.name for output in self.session.get_outputs() if output.type.startswith("tensor")]
        found = self.session.run(names, {self.session.get_inputs()[0].name: images})
        return dict(zip(names, found))


RUNTIME = Ort


def where_to_get(l4t: Optional[str]) -> str:
    """The place of builds for the GPU, where they are not on PyPI: L4T 36 is JetPack 6."""
    if (l4t or "").split(".")[0] != "36":
        return ""
    return " (JetPack 6: %s -m pip install onnxruntime-gpu --index-url %s, the Jetson AI Lab index)" % (
        sys.executable,
        JETSON_INDEX,
    )


def explain_load(text: str, version: str) -> str:
    """onnxruntime's own words, or a better sentence for the known case of an opset that is too new."""
    newest = re.search(r"support for domain ai\.onnx is till opset (\d+)", text)
    if newest:
        found = re.search(r"[Oo]pset (\d+) is", text)
        asked = found.group(1) if found else "?"
        return (
            "The model has opset %s; this board's onnxruntime %s loads up to %s. "
            "Export again for a target with a lower opset." % (asked, version, newest.group(1))
        )
    file_format = re.search(r"model IR version: (\d+), max supported IR version: (\d+)", text)
    if file_format:
        return (
            "The model file has IR version %s; this board's onnxruntime %s reads up to %s. "
            "Export again for a target with a lower opset." % (file_format.group(1), version, file_format.group(2))
        )
    return "onnxruntime %s cannot load the model: %s" % (version, text[:500].strip())


def node_times(events: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """Each node with its times, in the order in which they run; other events of the profiler are left out."""
    found: Dict[Tuple[str, str], Dict[str, Any]] = {}
    for event in events:
        name, told = event.get("name", ""), event.get("args") or {}
        if event.get("cat") == "Node" and name.endswith(KERNEL) and "op_name" in told:
            layer = {"name": name[: -len(KERNEL)], "op": told["op_name"], "us": []}
            found.setdefault((str(told.get("node_index")), name), layer)["us"].append(event["dur"])
    return list(found.values())


def element(kind: str) -> str:
    """``tensor(float)`` -> ``float``."""
    return kind[len("tensor(") : -1]
