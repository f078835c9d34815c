"""TensorRT targets as a YAML declares them."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from edgecr.core.options import Options
from edgecr.exporters.base import Target
from edgecr.exporters.graph_target import Ranges
from edgecr.exporters.onnx.declaration import OnnxTarget, Quantise
from edgecr.exporters.tensorrt.versions import Version, versions_of

Count = Annotated[int, Field(ge=1)]


class Batches(Options):
    """Numbers of images at once that the engine is built for; all alike fix the batch in the file."""

    min: Count = 1
    """The fewest."""
    opt: Count = 1
    """The number that the builder tunes for."""
    max: Count = 16
    """The most."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.min <= self.opt <= self.max:
            raise ValueError(f"min <= opt <= max is required, but they are {self.min}, {self.opt}, {self.max}")
        return self


class TensorRtTarget(Target):
    """An ONNX file and the flags that a board builds a TensorRT engine with."""

    runtimes: ClassVar[tuple[str, ...]] = ("tensorrt",)
    main: ClassVar[str] = "model.onnx"

    format: Literal["tensorrt"]
    """The format of the file; it decides which further keys there are."""
    jetpack: Literal[4, 5, 6, 7]
    """The board's JetPack; it decides the opset, the form of 8-bit weights and the flags."""
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    """The number format of the engine; below TensorRT 10 the builder makes float16 itself, out of a float32 file."""
    batch: Batches = Batches()
    """Numbers of images at once that the engine is built for."""
    embed_preprocessing: bool = False
    """Put scaling and normalisation into the graph: the input is then uint8 NHWC, which needs JetPack 6."""
    sparsity: bool = False
    """Allow kernels for weights with two zeros in four (2:4); the file must hold such layers. From JetPack 5 on."""
    workspace_mb: Count = 1024
    """Memory that the builder may try kernels with, in MiB."""
    quantise: Ranges | None = None
    """Settings of `precision: int8`, which has usual ones."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.quantise is not None and self.precision != "int8":
            raise ValueError(f"quantise belongs to precision: int8, but precision is {self.precision}")
        if self.sparsity and self.jetpack == 4:
            raise ValueError("sparsity needs an Ampere processor or a newer one, and boards of JetPack 4 have none")
        if self.embed_preprocessing and any(not version.uint8_ends for version in self.versions):
            raise ValueError(
                f"embed_preprocessing needs uint8 inputs, which TensorRT of JetPack {self.jetpack} does not have"
            )
        return self

    def uncompressed(self) -> Self:
        """The same in float32, without kernels for zeros."""
        return self._changed(precision="fp32", quantise=None, sparsity=False)

    @property
    def block(self) -> int | None:
        """Channels that kernels of this precision take at once: TensorRT fills up images to so many."""
        return {"fp16": 8, "int8": 32}.get(self.precision)

    @property
    def versions(self) -> tuple[Version, ...]:
        """The versions of TensorRT that boards with this JetPack may have."""
        return versions_of(self.jetpack)

    @property
    def strongly_typed(self) -> bool:
        """True where the file's own types decide the precision of every layer."""
        return all(version.strongly_typed for version in self.versions)

    def onnx(self) -> OnnxTarget:
        """The ONNX file of this target."""
        precision = "fp32" if self.precision == "fp16" and not self.strongly_typed else self.precision
        return OnnxTarget(
            name=self.name,
            purpose=self.purpose,
            format="onnx",
            precision=precision,
            opset=min(version.opset for version in self.versions),
            dynamic_batch=self.batch.min < self.batch.max,
            embed_preprocessing=self.embed_preprocessing,
            quantise=self._quantise() if self.precision == "int8" else None,
        )

    def _quantise(self) -> Quantise:
        return Quantise(
            **(self.quantise or Ranges()).model_dump(),
            activations="int8",
            symmetric=True,
            reduce_range=False,
            placement="tensorrt",
            stored="int8" if all(version.int8_weights for version in self.versions) else "fp32",
            floats="fp16" if self.strongly_typed else "fp32",
        )
