"""Every form of a model behind one question: images in, logits out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from edgecr.core.errors import FileProblem, RequestError
from edgecr.core.registry import Registry
from edgecr.data.base import Preprocessing
from edgecr.predictors.base import Predictor

__all__ = ["Exported", "Predictor", "predictor_for", "predictors", "preprocessing_of"]

_ON_PROCESSOR = ["CPUExecutionProvider"]


class Exported(Protocol):
    """The part of an artifact's manifest that a predictor needs."""

    @property
    def path(self) -> Path:
        """The exported file."""

    @property
    def format(self) -> str:
        """``onnx``, …"""

    @property
    def preprocessing(self) -> dict[str, Any]:
        """mean, std, size, embedded."""


Make = Callable[[Exported, Mapping[str, Any]], Predictor]
"""Makes a predictor of an artifact; the settings are those of the runtime, ``threads`` among them."""

predictors: Registry[Make] = Registry("predictor")
"""By ``format/runtime``; a format alone is the name of the one that is taken unless a runtime is asked for."""


def predictor_for(
    artifact: Exported, threads: int = 0, runtime: str = "", settings: Mapping[str, Any] | None = None
) -> Predictor:
    """The predictor that runs an artifact on this machine, in a runtime with its settings; 0 threads: all cores."""
    name = f"{artifact.format}/{runtime}" if runtime else artifact.format
    if name not in predictors:
        where = f"in the runtime {runtime!r} " if runtime else ""
        raise RequestError(
            f"{artifact.path.name}: files in the format {artifact.format!r} cannot be run {where}on this machine "
            f"(known: {', '.join(name for name in predictors if '/' in name)})."
        )
    return predictors.get(name)(artifact, {"threads": threads} | dict(settings or {}))


@predictors.register("onnx", "onnx/ort")
def _onnx_in_ort(artifact: Exported, settings: Mapping[str, Any]) -> Predictor:
    from edgecr.predictors.onnx_predictor import OnnxPredictor  # onnxruntime is only loaded when it is used

    asked = list(settings.get("providers", _ON_PROCESSOR))
    if asked != _ON_PROCESSOR:
        raise RequestError(
            f"This machine runs ONNX files on its processor ({_ON_PROCESSOR[0]}), but {', '.join(asked)} was asked for."
        )
    embedded = bool(artifact.preprocessing.get("embedded"))
    return OnnxPredictor(artifact.path, preprocessing_of(artifact), embedded, threads=int(settings["threads"]))


@predictors.register("openvino", "openvino/openvino", "onnx/openvino")
def _in_openvino(artifact: Exported, settings: Mapping[str, Any]) -> Predictor:
    from edgecr.predictors.openvino_predictor import OpenVinoPredictor  # openvino is only loaded when it is used

    return OpenVinoPredictor(
        artifact.path,
        preprocessing_of(artifact),
        bool(artifact.preprocessing.get("embedded")),
        threads=int(settings["threads"]),
        device=str(settings.get("device", "CPU")),
        precision=str(settings.get("inference_precision", "f32")),
    )


@predictors.register("tensorrt")
def _tensorrt_file_in_ort(artifact: Exported, settings: Mapping[str, Any]) -> Predictor:
    """The ONNX file that an engine is built from, rounded literally as it says; no engine runs on this machine."""
    from edgecr.predictors.onnx_predictor import AS_WRITTEN, OnnxPredictor

    embedded = bool(artifact.preprocessing.get("embedded"))
    return OnnxPredictor(
        artifact.path, preprocessing_of(artifact), embedded, threads=int(settings["threads"]), settings=AS_WRITTEN
    )


def preprocessing_of(artifact: Exported) -> Preprocessing:
    """The preprocessing that a manifest records; a file without one cannot be judged on images."""
    values = artifact.preprocessing
    if not {"mean", "std", "size", "embedded"} <= values.keys():
        raise RequestError(
            f"{artifact.path.name} has no recorded preprocessing (mean, std, size), so it cannot be fed with images. "
            "From Python say mean=(…) and std=(…); `edgecr judge` takes --mean, --std and --size; or export it with "
            "EdgeCR, which writes a manifest beside it."
        )
    try:
        height, width = values["size"]
        mean, std = _three(values["mean"]), _three(values["std"])
        if not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
            raise ValueError(f"mean {list(mean)} and std {list(std)} must be finite, and std above 0")
        return Preprocessing(mean, std, (int(height), int(width)))
    except (TypeError, ValueError, OverflowError) as error:
        raise FileProblem(
            f"{artifact.path} has a damaged preprocessing, in its manifest or, without one, in the notes inside it: "
            f"{error}. Export it again."
        ) from error


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = values
    return float(red), float(green), float(blue)
