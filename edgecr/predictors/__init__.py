"""Every form of a model behind one question: images in, logits out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from edgecr.core.errors import FileProblem, RequestError
from edgecr.data.base import Preprocessing
from edgecr.predictors.base import Predictor

__all__ = ["Exported", "Predictor", "predictor_for", "preprocessing_of"]


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


def predictor_for(artifact: Exported, threads: int = 0) -> Predictor:
    """The predictor that runs an artifact on this machine; 0 threads means all cores."""
    if artifact.format == "onnx":
        from edgecr.predictors.onnx_predictor import (
            OnnxPredictor,
        )  # onnxruntime is only loaded when it is used

        return OnnxPredictor(
            artifact.path,
            preprocessing_of(artifact),
            bool(artifact.preprocessing["embedded"]),
            threads=threads,
        )
    raise RequestError(f"{artifact.path.name}: files in the format {artifact.format!r} cannot be run on this machine.")


def preprocessing_of(artifact: Exported) -> Preprocessing:
    """The preprocessing that a manifest records; a file without one cannot be judged on images."""
    values = artifact.preprocessing
    if not {"mean", "std", "size", "embedded"} <= values.keys():
        raise RequestError(
            f"{artifact.path.name} has no recorded preprocessing (mean, std, size), so it cannot be "
            "fed with images; export it with EdgeCR, or write a manifest beside it."
        )
    try:
        height, width = values["size"]
        return Preprocessing(_three(values["mean"]), _three(values["std"]), (int(height), int(width)))
    except (TypeError, ValueError) as error:
        raise FileProblem(f"The manifest of {artifact.path} has a damaged preprocessing: {error}.") from error


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = values
    return float(red), float(green), float(blue)
