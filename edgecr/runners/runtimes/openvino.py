"""OpenVINO as a device declares it; ``devices/agent/runtimes/openvino.py`` runs it there."""

from __future__ import annotations

from typing import ClassVar, Literal

from edgecr.runners.runtimes.base import RuntimeOptions, runtimes


@runtimes.register("openvino")
class OpenVinoOptions(RuntimeOptions):
    """Settings of OpenVINO; each is recorded with the result."""

    packages: ClassVar[tuple[str, ...]] = ("openvino",)
    answers: ClassVar[bool] = True

    device: str = "CPU"
    """OpenVINO's name of the device."""
    inference_precision: Literal["f32", "bf16", "f16"] = "f32"
    """Always set: the default of some processors silently computes fp32 models in bfloat16."""

    @property
    def cpu_time_is_latency(self) -> bool:
        """True for one thread on the processor."""
        return self.device == "CPU" and self.threads == 1
