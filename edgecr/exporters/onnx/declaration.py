"""ONNX targets as a YAML declares them."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from edgecr.core.options import Options
from edgecr.exporters.base import Target


class Quantise(Options):
    """Settings of a file with 8-bit integers."""

    activations: Literal["uint8", "int8"] = "uint8"
    """The integers between layers: uint8 for x86, int8 for ARM; weights are int8 in both."""
    symmetric: bool = False
    """Put the zero of activations at 0, which other runtimes may want; ONNX Runtime then keeps ReLUs in float32."""
    per_channel: bool = True
    """Give each output channel of a weight its own scale."""
    reduce_range: Literal["auto"] | bool = "auto"
    """7-bit weights; auto: for uint8 on a processor without VNNI, where sums of 8-bit products saturate."""
    images: Annotated[int, Field(ge=1)] = 256
    """Training images for the ranges; with `calibrator: auto` a quarter of them compares calibrators instead."""
    calibrator: Literal["auto", "minmax", "entropy", "percentile", "mse"] = "auto"
    """The rule from the values of activations to their range; auto: the one whose file answers most like fp32."""
    exclude: tuple[str, ...] = ()
    """Patterns of layers that stay in float32, such as `layer4.*`."""


class OnnxTarget(Target):
    """An ONNX file."""

    runtimes: ClassVar[tuple[str, ...]] = ("ort", "openvino")

    format: Literal["onnx"]
    """The format of the file; it decides which further keys there are."""
    precision: Literal["fp32", "int8", "fp16"] = "fp32"
    """The number format of weights and arithmetic."""
    opset: int = 20
    """The version of the operators; a board's runtime may only know older ones."""
    dynamic_batch: bool = True
    """Let the file take any number of images at once, not just one."""
    embed_preprocessing: bool = False
    """Put scaling and normalisation into the graph: the input is then uint8 NHWC."""
    storage: Literal["plain", "compact"] = "plain"
    """compact: weights with many zeros, or with one magnitude a channel, lie packed in the file; only for fp32."""
    quantise: Quantise | None = None
    """Settings of `precision: int8`, which has usual ones."""

    @model_validator(mode="after")
    def _fits_the_precision(self) -> Self:
        if self.quantise is not None and self.precision != "int8":
            raise ValueError(f"quantise belongs to precision: int8, but precision is {self.precision}")
        if self.storage == "compact" and self.precision != "fp32":
            raise ValueError(f"storage: compact packs weights of precision fp32, but precision is {self.precision}")
        return self


PLAIN = OnnxTarget(name="plain", purpose="a file that is only measured: its numbers are not proven", format="onnx")
"""The target of files that never ship."""
