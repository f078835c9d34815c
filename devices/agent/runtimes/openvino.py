"""OpenVINO."""

import platform
import sys
from typing import Any, Callable, Dict, List

from .base import DTYPES, Runtime, RuntimeProblem, batched, import_or_explain, sample

OPEN = 0  # a batch of any size


class OpenVino(Runtime):
    """OpenVINO; the precision is always set, because its default on some processors is bfloat16."""

    whole_batches = False

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
            if batch != OPEN:
                model.reshape(closed_shapes(model, batch))
            refuse_integers_on_arm(model)
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

    @classmethod
    def for_answers(cls, path: str, config: Dict[str, Any], batch: int) -> "OpenVino":
        """The model with its batch left open."""
        return cls(path, config, OPEN)

    def new_call(self) -> Callable[[], Any]:
        """One inference request with its own input."""
        request = self.compiled.create_infer_request()
        inputs = [
            (one.any_name, list(one.shape), DTYPES[one.element_type.get_type_name()]) for one in self.compiled.inputs
        ]
        for name, value in sample(inputs).items():
            request.set_tensor(name, self.openvino.Tensor(value))
        return lambda: request.infer()

    def answer(self, images: Any) -> Dict[str, Any]:
        """All outputs."""
        found = self.compiled([images])
        return {output.any_name: found[output] for output in self.compiled.outputs}


RUNTIME = OpenVino


def refuse_integers_on_arm(model: Any) -> None:
    """Raises for a model of 8-bit integers on an ARM processor, where OpenVINO converts them to floats."""
    rounded = any(one.get_type_name() == "FakeQuantize" for one in model.get_ops())
    if rounded and platform.machine().lower().startswith(("aarch64", "arm")):
        raise RuntimeProblem(
            "The model has 8-bit integers, which OpenVINO does not compute in on this ARM processor: it converts them "
            "to floats. Measure onnx-int8-arm in ONNX Runtime here, or a target in float32."
        )


def closed_shapes(model: Any, batch: int) -> Dict[Any, List[int]]:
    """The shape of each input for a batch."""
    return {one: batched(one.any_name, open_shape(one.partial_shape), batch) for one in model.inputs}


def open_shape(shape: Any) -> List[Any]:
    """An OpenVINO shape with None for each dimension that is open."""
    return [None if one.is_dynamic else one.get_length() for one in shape]
