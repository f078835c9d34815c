"""The runtimes a board may have; nothing of them is imported before it is asked for."""

import os
import re
import sys
from typing import Any, Callable, Dict, List, Tuple, Type

# The newest versions that have aarch64 wheels for each Python, as tried.
PINNED = {
    (3, 6): '"onnxruntime==1.10.0" "numpy==1.19.5" "protobuf==3.19.6"',
    (3, 7): '"onnxruntime==1.14.1" "numpy==1.21.6"',
    (3, 8): '"onnxruntime==1.19.2" "numpy==1.24.4"',
    (3, 10): '"onnxruntime==1.23.2" "numpy==2.2.6"',
}
DTYPES = {
    "float": "float32",
    "float16": "float16",
    "double": "float64",
    "uint8": "uint8",
    "int8": "int8",
    "int32": "int32",
    "int64": "int64",
    "f32": "float32",
    "f16": "float16",
    "u8": "uint8",
    "i8": "int8",
    "i32": "int32",
    "i64": "int64",
}


class RuntimeProblem(Exception):
    """The runtime cannot do what was asked; the message says what to do."""


class Runtime(object):
    """One loaded model; a subclass for each runtime."""

    info: Dict[str, Any]

    @staticmethod
    def import_library() -> None:
        """Imports the runtime, with its telemetry switched off before."""
        raise NotImplementedError

    @staticmethod
    def on_processor(config: Dict[str, Any]) -> bool:
        """True when all of its memory is the processor's own; accelerators reserve far more than they use."""
        raise NotImplementedError

    def __init__(self, path: str, config: Dict[str, Any], batch: int) -> None:
        raise NotImplementedError

    def new_call(self) -> Callable[[], Any]:
        """One inference on its own input; several calls may run at once."""
        raise NotImplementedError


class Ort(Runtime):
    """ONNX Runtime."""

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
                "This onnxruntime has no %s, only %s. Install a build that has it, or change "
                "runtimes.ort.providers." % (", ".join(missing), ", ".join(available))
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = config["threads"]
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if config["spin"] else "0")
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=providers)
        except Exception as error:  # onnxruntime has an exception class for each kind of failure
            raise RuntimeProblem(explain_load(str(error), onnxruntime.__version__))
        used = self.session.get_providers()
        if used[0] != providers[0]:
            raise RuntimeProblem("onnxruntime fell back to %s instead of %s." % (used[0], providers[0]))
        self.info = {
            "runtime": "onnxruntime",
            "version": onnxruntime.__version__,
            "providers": used,
            "threads": config["threads"],
            "spin": config["spin"],
        }
        self.inputs = [
            (one.name, batched(one.name, one.shape, batch), DTYPES[element(one.type)])
            for one in self.session.get_inputs()
        ]

    def new_call(self) -> Callable[[], Any]:
        """One inference on its own input; several calls may run at once on the one session."""
        feed, run = sample(self.inputs), self.session.run
        return lambda: run(None, feed)


class OpenVino(Runtime):
    """OpenVINO; the precision is always set, because its default on some processors is bfloat16."""

    @staticmethod
    def import_library() -> None:
        """Imports openvino without its telemetry, which forks a process that may hang."""
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        import_or_explain("openvino", "openvino numpy")

    @staticmethod
    def on_processor(config: Dict[str, Any]) -> bool:
        """True with the processor's plugin."""
        return bool(config["device"] == "CPU")

    def __init__(self, path: str, config: Dict[str, Any], batch: int) -> None:
        import openvino

        settings = {
            "INFERENCE_PRECISION_HINT": config["inference_precision"],
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(config["threads"]),
        }
        core = openvino.Core()
        try:
            model = core.read_model(path)
            shapes = {one: batched(one.any_name, open_shape(one.partial_shape), batch) for one in model.inputs}
            model.reshape(shapes)
            self.compiled = core.compile_model(model, config["device"], settings)
        except RuntimeError as error:
            raise RuntimeProblem("openvino %s cannot load the model: %s" % (openvino.__version__, str(error)[-500:]))
        self.openvino = openvino
        self.info = {
            "runtime": "openvino",
            "version": openvino.__version__,
            "device": config["device"],
            "settings": settings,
        }
        self.inputs = [
            (one.any_name, list(one.shape), DTYPES[one.element_type.get_type_name()]) for one in self.compiled.inputs
        ]

    def new_call(self) -> Callable[[], Any]:
        """One inference request with its own input."""
        request = self.compiled.create_infer_request()
        for name, value in sample(self.inputs).items():
            request.set_tensor(name, self.openvino.Tensor(value))
        return lambda: request.infer()


RUNTIMES: Dict[str, Type[Runtime]] = {"ort": Ort, "openvino": OpenVino}


def import_or_explain(library: str, install: str) -> None:
    """Imports a runtime and numpy, or says how to install them on this board."""
    try:
        __import__("numpy")
        __import__(library)
    except Exception as error:  # a broken wheel may raise anything
        raise RuntimeProblem(
            "%s cannot be imported on the board (%s). Install it there: %s -m pip install %s"
            % (library, error, sys.executable, install)
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


def element(kind: str) -> str:
    """``tensor(float)`` -> ``float``."""
    return kind[len("tensor(") : -1]


def open_shape(shape: Any) -> List[Any]:
    """An OpenVINO shape with None for each dimension that is open."""
    return [None if one.is_dynamic else one.get_length() for one in shape]


def batched(name: str, shape: List[Any], batch: int) -> List[int]:
    """The shape for a batch; other open dimensions become 1."""
    if shape and isinstance(shape[0], int) and shape[0] != batch:
        raise RuntimeProblem(
            "Input %r has the fixed batch %d, but %d was asked for. Export with a dynamic batch."
            % (name, shape[0], batch)
        )
    return [batch if place == 0 else size if isinstance(size, int) else 1 for place, size in enumerate(shape)]


def sample(inputs: List[Tuple[str, List[int], str]]) -> Dict[str, Any]:
    """Random input of the right form, the same each time."""
    import numpy

    random = numpy.random.RandomState(0)
    return {name: filled(numpy.empty(shape, dtype), random) for name, shape, dtype in inputs}


def filled(values: Any, random: Any) -> Any:
    """Fills an array with random numbers row by row: drawn at once they would take five times its memory."""
    scale = 1 if values.dtype.kind == "f" else 100
    for row in values if values.ndim > 1 else [values]:
        row[...] = random.rand(*row.shape) * scale
    return values
