"""OpenVINO's targets as a YAML declares them."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import model_validator
from typing_extensions import Self

from edgecr.exporters.graph_target import GraphTarget, Rounding
from edgecr.exporters.onnx.declaration import OnnxTarget
from edgecr.exporters.target import BINARY


class PostTraining(Rounding):
    """Settings of an OpenVINO file with 8-bit integers, which NNCF rounds."""

    decide_speed: ClassVar[tuple[str, ...]] = ("preset",)

    preset: Literal["mixed", "performance"] = "mixed"
    """Activations with a zero of their own where they have both signs (mixed), or with the zero at 0 (performance)."""
    fast_bias_correction: bool = True
    """Correct each bias by its layer's mean error; false: by the error of the network so far, which takes longer."""


class OpenVinoTarget(GraphTarget):
    """OpenVINO's own format: `model.xml`, the graph, and `model.bin`, its weights."""

    runtimes: ClassVar[tuple[str, ...]] = ("openvino",)
    main: ClassVar[str] = "model.xml"

    format: Literal["openvino"]
    """The format of the file; it decides which further keys there are."""
    precision: Literal["fp32", "int8", "fp16", "binary"] = "fp32"
    """The number format of weights and arithmetic; fp16 weights are computed in float32 on a CPU.

    `binary` has bits where layers have binary weights and activations, floats elsewhere, and one image at a time.
    """
    quantise: PostTraining | None = None
    """Settings of `precision: int8`, which has usual ones."""

    @model_validator(mode="after")
    def _bits_take_one_image(self) -> Self:
        if self.precision == BINARY and self.dynamic_batch:
            raise ValueError("OpenVINO computes precision: binary for a fixed batch only; set dynamic_batch: false")
        return self

    def as_onnx(self) -> OnnxTarget:
        """The target of the float32 ONNX file that it is made from."""
        return OnnxTarget(
            name=self.name,
            purpose="a step on the way to OpenVINO",
            format="onnx",
            dynamic_batch=self.dynamic_batch,
            embed_preprocessing=self.embed_preprocessing,
        )
