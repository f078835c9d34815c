"""ONNX targets as a YAML declares them."""

from __future__ import annotations

from typing import ClassVar, Literal

from edgecr.exporters.base import Target


class OnnxTarget(Target):
    """An ONNX file."""

    runtimes: ClassVar[tuple[str, ...]] = ("ort", "openvino")

    format: Literal["onnx"]
    """The format of the file; it decides which further keys there are."""
    precision: Literal["fp32"] = "fp32"
    """The number format of weights and arithmetic."""
    opset: int = 20
    """The version of the operators; a board's runtime may only know older ones."""
    dynamic_batch: bool = True
    """Let the file take any number of images at once, not just one."""
    embed_preprocessing: bool = False
    """Put scaling and normalisation into the graph: the input is then uint8 NHWC."""


PLAIN = OnnxTarget(name="plain", purpose="a file that is only measured: its numbers are not proven", format="onnx")
"""The target of files that never ship."""
