"""TensorRT as a device declares it; the board's own trtexec builds engines there, and times them."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from edgecr.runners.runtimes.base import RuntimeOptions, runtimes


def _one(threads: int) -> int:
    if threads != 1:
        raise ValueError("TensorRT computes on the GPU: it has no threads to choose; leave them out")
    return threads


@runtimes.register("tensorrt")
class TensorRtOptions(RuntimeOptions):
    """Settings of TensorRT; each is recorded with the result."""

    packages: ClassVar[tuple[str, ...]] = ("tensorrt",)
    by_tool: ClassVar[bool] = True
    answers: ClassVar[bool] = True

    threads: Annotated[int, AfterValidator(_one)] = 1
    """Always 1: the GPU computes, and there are no threads to choose."""
    tool: Annotated[str, Field(pattern=r"^/([^\x00-\x1f]*/)?trtexec$")] | None = None
    """The path of trtexec; null: the one on PATH, else /usr/src/tensorrt/bin/trtexec."""
    workspace_mb: Annotated[int, Field(ge=1)] | None = None
    """Memory that the builder may try kernels with, in MiB; null: as the exported file asks."""
    dla: Annotated[int, Field(ge=0)] | None = None
    """The deep learning accelerator to use, by its number; layers that it cannot run go to the GPU. null: the GPU."""
    build_timeout_s: Annotated[float, Field(gt=0)] = 3600.0
    """Give up building an engine after so many seconds."""
    cache: bool = True
    """Keep engines and the timings of kernels on the board, for the next session."""
    cache_mb: Annotated[int, Field(ge=1)] = 2048
    """The most that all of EdgeCR's files on the board may take; what was not used for longest goes first."""
    warmup_ms: Annotated[int, Field(ge=0)] = 200
    """Milliseconds of uncounted calls at the start of a turn; a turn counts for `protocol.round_s`."""
    layers: bool = True
    """Measure the time of each layer too, in a run of its own that the latencies do not suffer from."""
