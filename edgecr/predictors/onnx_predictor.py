"""An ONNX file as a predictor, in ONNX Runtime on the host's CPU."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # must stand before the import: onnxruntime phones home from there on

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from edgecr.core.errors import FileProblem, UnsupportedModel
from edgecr.core.files import opened
from edgecr.data.base import Preprocessing
from edgecr.predictors.file_predictor import FilePredictor
from edgecr.predictors.onnx_file import check_name, session_entries
from edgecr.tasks import Outputs

_SILENT = 4
AS_WRITTEN = {"session.disable_quant_qdq": "1"}
"""Settings that compute pairs of QuantizeLinear and DequantizeLinear one by one, without fusing or adding any.

The runtime (1.31) also rounds the biases of such layers, and answers wrongly where their scales are float16.
"""


class OnnxPredictor(FilePredictor):
    """Runs an ONNX file."""

    def __init__(
        self,
        path: Path,
        preprocessing: Preprocessing,
        embedded: bool = False,
        *,
        threads: int = 0,
        portion: int = 256,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._session = open_session(path, threads, settings)
        self._input = self._session.get_inputs()[0]
        self._outputs = [output.name for output in self._session.get_outputs() if output.type.startswith("tensor")]
        batch = self._input.shape[0]
        super().__init__(path, preprocessing, embedded, batch if isinstance(batch, int) else None, portion)

    def _answer(self, inputs: np.ndarray) -> Outputs:
        try:
            found: list[np.ndarray] = self._session.run(self._outputs, {self._input.name: inputs})
        except Exception as error:  # the runtime's exceptions share no base class of their own
            raise UnsupportedModel(f"{self._path} cannot run on a batch of {len(inputs)}: {error}") from error
        return dict(zip(self._outputs, found))


def open_session(
    source: Path | bytes, threads: int = 0, settings: Mapping[str, str] | None = None, optimised: Path | None = None
) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session on the CPU; a file it cannot load is a FileProblem.

    ``settings`` are entries of the session's configuration, those that the file asks for unless given; the graph that
    really runs is written to ``optimised``.
    """
    if isinstance(source, Path):
        check_name(source)
        with opened(source) as file:  # what is no file, such as a pipe, would be waited for
            settings = _asked_by(file.read()) if settings is None else settings
    elif settings is None:
        settings = _asked_by(source)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # answers may wait; others need the cores
    for key, value in settings.items():
        options.add_session_config_entry(key, value)
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    model = source if isinstance(source, bytes) else str(source)
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's exceptions share no base class of their own
        name = source if isinstance(source, Path) else "The model"
        raise FileProblem(f"{name} {_why(str(error))}") from error


def _asked_by(content: bytes) -> Mapping[str, str]:
    """The settings in which a file is computed as its integers say."""
    if b"QuantizeLinear" not in content:
        return {}
    try:
        return session_entries(onnx.ModelProto.FromString(content))
    except DecodeError:
        return {}  # the runtime says what is wrong with it


def _why(message: str) -> str:
    version = onnxruntime.__version__
    if "Unsupported model IR version" in message:
        limits = message.partition("Unsupported model ")[2].strip()
        return f"is too new for onnxruntime {version} ({limits}); update onnxruntime, or use an older ONNX."
    if "official released onnx opset" in message:
        limits = message.partition("opset versions. ")[2].partition(" is under")[0]
        newest = message.rpartition(" ")[2].strip(" .\n")
        return f"is too new for onnxruntime {version} ({limits}, at most {newest}); choose a lower opset."
    if "Protobuf parsing failed" in message or "No graph was found" in message:
        return "is not an ONNX file, or it is cut short."
    return f"cannot be loaded by onnxruntime {version}: {message.rpartition(' failed:')[2].strip()}"
