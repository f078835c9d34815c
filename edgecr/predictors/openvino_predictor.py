"""A file as a predictor in OpenVINO on this machine: one of OpenVINO's own, or an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgecr.core.errors import RequestError, UnsupportedModel
from edgecr.data.base import Preprocessing
from edgecr.predictors.file_predictor import FilePredictor
from edgecr.predictors.openvino_file import described, last_line, openvino_library, read_openvino
from edgecr.tasks import Outputs


class OpenVinoPredictor(FilePredictor):
    """Runs a file in OpenVINO, in one stream and in a precision that is always set."""

    def __init__(
        self,
        path: Path,
        preprocessing: Preprocessing,
        embedded: bool = False,
        *,
        threads: int = 0,
        device: str = "CPU",
        precision: str = "f32",
        portion: int = 256,
    ) -> None:
        self._compiled = compiled(read_openvino(path), path, threads=threads, device=device, precision=precision)
        self._outputs = [output.any_name for output in self._compiled.outputs]
        batch = described(self._compiled.inputs[0])["shape"][0]
        super().__init__(path, preprocessing, embedded, batch, portion)

    def _answer(self, inputs: np.ndarray) -> Outputs:
        try:
            found = self._compiled([inputs])
        except Exception as error:  # whatever the plugin raises
            raise UnsupportedModel(
                f"{self._path} cannot run on a batch of {len(inputs)}: {last_line(error)}"
            ) from error
        return dict(zip(self._outputs, found.values()))


def compiled(model: Any, path: Path, *, threads: int = 0, device: str = "CPU", precision: str = "f32") -> Any:
    """A model as it runs on a device; UnsupportedModel where it cannot, RequestError for a device that is not here.

    The precision is always set: by default some processors compute float32 models in bfloat16. 0 threads: all cores.
    """
    library = openvino_library()
    core = library.Core()
    if device not in core.available_devices:
        known = ", ".join(core.available_devices)
        raise RequestError(f"OpenVINO finds no {device!r} on this machine, only {known}; set `device:` of the runtime.")
    settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = str(threads)
    try:
        return core.compile_model(model, device, settings)
    except Exception as error:  # the library raises RuntimeError, and others where it meets them
        version = library.__version__
        raise UnsupportedModel(f"openvino {version} cannot run {path} on {device}: {last_line(error)}") from error
