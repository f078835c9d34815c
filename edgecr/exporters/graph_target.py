"""The keys of targets whose files hold the graph that PyTorch is traced to, and of rounding it, whatever the format."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from edgecr.core.options import Options
from edgecr.exporters.target import Target


class SampledRanges(Options):
    """The images that ranges for 8-bit integers come from, and the layers that stay in floats."""

    images: Annotated[int, Field(ge=1)] = 256
    """Training images for the ranges of activations."""
    exclude: tuple[str, ...] = ()
    """Patterns of layers that stay in floats, such as `layer4.*`."""
    max_drop: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Loss of accuracy on validation images that is allowed; the layers that cost most stay in floats until it holds.

    Without labels it is the share of images that are answered otherwise.
    """


class Ranges(SampledRanges):
    """The choice of ranges for 8-bit integers, by a rule."""

    calibrator: Literal["auto", "minmax", "entropy", "percentile", "mse"] = "auto"
    """The rule from the values of activations to their range; auto: the one whose file answers most like fp32.

    With auto a quarter of the images compares calibrators instead.
    """


class Rounding(SampledRanges):
    """Settings of a file with 8-bit integers for a processor."""

    decide_speed: ClassVar[tuple[str, ...]] = ()
    """The settings that the speed of a file depends on."""

    reduce_range: Literal["auto"] | bool = "auto"
    """7-bit weights; auto: for uint8 on a processor without VNNI, where sums of 8-bit products saturate."""


class GraphTarget(Target):
    """A file of the graph that PyTorch is traced to."""

    dynamic_batch: bool = True
    """Let the file take any number of images at once, not just one."""
    embed_preprocessing: bool = False
    """Put scaling and normalisation into the graph: the input is then uint8 NHWC."""
    quantise: Rounding | None = None
    """Settings of `precision: int8`, which has usual ones."""

    @model_validator(mode="after")
    def _fits_the_precision(self) -> Self:
        if self.quantise is not None and self.precision != "int8":
            raise ValueError(f"quantise belongs to precision: int8, but precision is {self.precision}")
        return self

    def uncompressed(self) -> Self:
        """The same in float32."""
        return self._changed(precision="fp32", quantise=None)
