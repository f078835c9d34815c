"""ONNX targets as a YAML declares them."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from edgecr.exporters.graph_target import GraphTarget, Ranges, Rounding

_HALF_SCALES = 19
"""The first opset with integers that are made out of float16."""


class Quantise(Ranges, Rounding):
    """Settings of an ONNX file with 8-bit integers."""

    decide_speed: ClassVar[tuple[str, ...]] = (
        "activations",
        "symmetric",
        "per_channel",
        "placement",
        "stored",
        "floats",
    )

    activations: Literal["uint8", "int8"] = "uint8"
    """The integers between layers: uint8 for x86, int8 for ARM; weights are int8 in both."""
    symmetric: bool = False
    """Put the zero of activations at 0, which other runtimes may want; ONNX Runtime then keeps ReLUs in float32."""
    per_channel: bool = True
    """Give each output channel of a weight its own scale."""
    placement: Literal["onnxruntime", "tensorrt"] = "onnxruntime"
    """The runtime whose rules say which values are rounded; tensorrt needs `activations: int8`, `symmetric: true`."""
    stored: Literal["int8", "fp32"] = "int8"
    """The form of weights in the file; fp32: the file rounds them itself, the only form that TensorRT 8 reads."""
    floats: Literal["fp32", "fp16"] = "fp32"
    """The number format of all that is not rounded to integers; fp16 needs `placement: tensorrt` and opset 19."""

    @model_validator(mode="after")
    def _fits_the_placement(self) -> Self:
        if self.placement == "tensorrt" and not (self.activations == "int8" and self.symmetric):
            raise ValueError("placement: tensorrt needs activations: int8 and symmetric: true")
        if self.floats == "fp16" and self.placement != "tensorrt":
            raise ValueError("floats: fp16 needs placement: tensorrt; ONNX Runtime has no float16 beside its integers")
        return self


class OnnxTarget(GraphTarget):
    """An ONNX file."""

    runtimes: ClassVar[tuple[str, ...]] = ("ort", "openvino")
    main: ClassVar[str] = "model.onnx"

    format: Literal["onnx"]
    """The format of the file; it decides which further keys there are."""
    precision: Literal["fp32", "int8", "fp16"] = "fp32"
    """The number format of weights and arithmetic."""
    opset: int = 20
    """The version of the operators; a board's runtime may only know older ones."""
    top_k: Annotated[int, Field(ge=1)] | None = None
    """Add the outputs `top_classes` and `top_scores`: so many likeliest classes of each image, and their softmax."""
    storage: Literal["plain", "compact"] = "plain"
    """compact: weights with many zeros, or with one magnitude a channel, lie packed in the file; only for fp32."""
    quantise: Quantise | None = None
    """Settings of `precision: int8`, which has usual ones."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.quantise is not None and self.quantise.floats == "fp16" and self.opset < _HALF_SCALES:
            raise ValueError(f"quantise: floats: fp16 needs opset: {_HALF_SCALES} or more, but it is {self.opset}")
        if self.storage == "compact" and self.precision != "fp32":
            raise ValueError(f"storage: compact packs weights of precision fp32, but precision is {self.precision}")
        return self

    def uncompressed(self) -> Self:
        """The same in float32, as it lies in memory."""
        return self._changed(precision="fp32", quantise=None, storage="plain")


PLAIN = OnnxTarget(name="plain", purpose="a file that is only measured: its numbers are not proven", format="onnx")
"""The target of files that never ship."""
