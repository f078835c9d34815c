"""What a method is, and what it may use.

Method modules are read to check a recipe, which happens before torch is imported: they import torch, and
whatever needs torch, inside their functions only.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgecr.core.errors import RequestError
from edgecr.core.options import Options
from edgecr.core.progress import Monitor
from edgecr.core.registry import Registry

if TYPE_CHECKING:
    from edgecr.data.views import LearningData
    from edgecr.latency import LatencyTable, LayerConfig
    from edgecr.subject import Subject


@dataclass(frozen=True)
class Execution:
    """Where the host's own work runs; results are promised bit-identical only for equal values."""

    threads: int = 0
    accelerator: str = "cpu"
    devices: int = 1
    allow_code: bool = False


class DeviceLatencies:
    """The devices that a method may ask about; this one knows none."""

    def align(self, device: str) -> int:
        """The multiple of channels that suits the device's kernels."""
        return 16

    def table(self, device: str, subject: Subject, batch: int) -> LatencyTable:
        """The device's latency table with the layers of this model."""
        raise RequestError(f"Nobody is here to ask device {device!r} for latencies; run this step with a recipe.")

    def measured(self, device: str, layers: Sequence[LayerConfig]) -> LatencyTable:
        """The device's latency table with these layers; what it lacks is measured."""
        raise RequestError(f"Nobody is here to measure on device {device!r}; run this step with a recipe.")

    def whole(self, device: str, subjects: Sequence[Subject], batch: int) -> list[float]:
        """Milliseconds of whole models, measured beside each other on the device."""
        raise RequestError(f"Nobody is here to measure on device {device!r}; run this step with a recipe.")


@dataclass(frozen=True)
class StepContext:
    """Everything a method may use besides the subject: data, a seed, a folder to resume from, a voice."""

    data: LearningData
    seed: int
    folder: Path
    execution: Execution = field(default_factory=Execution)
    monitor: Monitor = field(default_factory=Monitor)
    latencies: DeviceLatencies = field(default_factory=DeviceLatencies)


class Method(Options):
    """One way to compress or train; the fields of a subclass are its options, and their YAML keys."""

    compresses: ClassVar[bool] = False
    """Whether the model before this step is the uncompressed baseline that everything is compared with."""
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Named option values, chosen by ``preset: NAME``; keys beside it win."""

    @classmethod
    def resolve(cls, options: dict[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
        """Completes the raw options from the rest of the raw recipe, before they are checked."""
        return options

    @abstractmethod
    def apply(self, subject: Subject, context: StepContext) -> Subject:
        """Returns the changed subject; the given one is not kept in use by the caller afterwards."""


methods: Registry[type[Method]] = Registry("method")
