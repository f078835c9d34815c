"""From an OpenVINO model in float32 to one in 8-bit integers, by NNCF: ranges from training images, rounded weights."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import numpy as np

from edgecr.core.errors import UnsupportedModel
from edgecr.data.views import ProofData
from edgecr.exporters.control import Controlling
from edgecr.exporters.drop import DropMeter
from edgecr.exporters.onnx.write import silence
from edgecr.exporters.openvino.declaration import OpenVinoTarget, PostTraining
from edgecr.exporters.openvino.layers import layer_of
from edgecr.exporters.rounding import calibration_inputs, excluded, file_inputs, narrow_weights
from edgecr.predictors.openvino_file import last_line, openvino_library
from edgecr.predictors.openvino_predictor import compiled

_PORTION = 64
"""Images that a model is asked about at once."""


def version() -> str:
    """The version of the quantiser."""
    return version_of("nncf")


def quantised(
    model: Any, layers: Sequence[str], target: OpenVinoTarget, proof: ProofData
) -> tuple[Any, dict[str, Any]]:
    """A float32 model rounded by the settings of a target, and what was chosen; the caller proves it.

    ``layers`` are the names of the operators that are a use of a layer.
    """
    options = target.quantise or PostTraining()
    kept = excluded(((use, layer_of(use)) for use in layers), options.exclude)
    inputs = calibration_inputs(target, options.images, proof)
    narrow, why = narrow_weights(options)
    work = _Work(model, options, kept, narrow, inputs)
    facts: dict[str, Any] = {"images": len(inputs), "reduce_range": narrow, "reduce_range_because": why}
    if options.max_drop is None:
        made = work.rounded()
    else:
        nodes = {use: layer_of(use) for use in layers if use not in kept}
        meter = DropMeter(model, proof, partial(file_inputs, target, proof), _portion(target), _asked)
        control = Controlling(work.rounded, nodes, meter).within(options.max_drop)
        made, facts = control.model, facts | control.plain()
    return made, options.model_dump(mode="json") | facts


@dataclass(frozen=True)
class _Work:
    """A model to round, and all that does not differ between tries."""

    model: Any
    options: PostTraining
    kept: Sequence[str]
    """The operators that stay in floats."""
    narrow: bool
    """True for weights of 7 bits."""
    inputs: np.ndarray

    def rounded(self, more: Collection[str] = ()) -> Any:
        """A copy of the model in 8-bit integers, with ``more`` operators that stay in floats."""
        with silence():
            nncf = openvino_library("nncf")
        try:
            with silence():
                return _by_nncf(nncf, self.model.clone(), self.options, [*self.kept, *more], self.narrow, self.inputs)
        except Exception as error:  # the quantiser raises whatever fails inside it
            raise UnsupportedModel(f"nncf cannot round this model to 8-bit integers: {last_line(error)}") from error


def _portion(target: OpenVinoTarget) -> int:
    return _PORTION if target.dynamic_batch else 1


def _asked(model: Any, portions: Sequence[np.ndarray]) -> list[Sequence[np.ndarray]]:
    """The outputs of a model for each portion."""
    asked = compiled(model, Path("the rounded model"))
    return [list(asked([portion]).values()) for portion in portions]


def _by_nncf(nncf: Any, model: Any, options: PostTraining, kept: list[str], narrow: bool, inputs: Any) -> Any:
    advanced = importlib.import_module("nncf.quantization.advanced_parameters")
    overflow = advanced.OverflowFix.ENABLE if narrow else advanced.OverflowFix.DISABLE
    return nncf.quantize(
        model,
        nncf.Dataset([image[None] for image in inputs]),
        preset=nncf.QuantizationPreset(options.preset),
        target_device=nncf.TargetDevice.CPU,
        subset_size=len(inputs),
        fast_bias_correction=options.fast_bias_correction,
        ignored_scope=nncf.IgnoredScope(names=kept) if kept else None,
        advanced_parameters=advanced.AdvancedQuantizationParameters(overflow_fix=overflow),
    )
