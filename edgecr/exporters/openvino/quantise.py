"""From an OpenVINO model in float32 to one in 8-bit integers, by NNCF: ranges from training images, rounded weights."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from importlib.metadata import version as version_of
from typing import Any

from edgecr.core.errors import UnsupportedModel
from edgecr.data.views import ProofData
from edgecr.exporters.onnx.write import silence
from edgecr.exporters.openvino.declaration import OpenVinoTarget, PostTraining
from edgecr.exporters.openvino.layers import layer_of
from edgecr.exporters.rounding import calibration_inputs, excluded, narrow_weights
from edgecr.predictors.openvino_file import last_line, openvino_library


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
    with silence():
        library = openvino_library("nncf")
    try:
        with silence():
            made = _by_nncf(library, model, options, kept, narrow, inputs)
    except Exception as error:  # the quantiser raises whatever fails inside it
        raise UnsupportedModel(f"nncf cannot round this model to 8-bit integers: {last_line(error)}") from error
    chosen = {"images": len(inputs), "reduce_range": narrow, "reduce_range_because": why}
    return made, options.model_dump(mode="json") | chosen


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
