"""ONNX Runtime as a device declares it; ``devices/agent/runtimes/ort.py`` runs it there."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from edgecr.runners.runtimes.base import RuntimeOptions, runtimes

ON_PROCESSOR = ("CPUExecutionProvider",)


@runtimes.register("ort")
class OrtOptions(RuntimeOptions):
    """Settings of ONNX Runtime; each is recorded with the result."""

    packages: ClassVar[tuple[str, ...]] = ("onnxruntime", "onnxruntime_gpu")
    answers: ClassVar[bool] = True

    spin: bool = False
    """Let idle threads spin: faster with several threads, but CPU time then counts the spinning."""
    providers: Annotated[tuple[str, ...], Field(min_length=1)] = ON_PROCESSOR
    """Execution providers in order of preference; the first must really be used."""

    @property
    def cpu_time_is_latency(self) -> bool:
        """True for one thread that never spins, on the processor alone."""
        return self.providers == ON_PROCESSOR and self.threads == 1 and not self.spin
