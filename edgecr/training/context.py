"""The context of a step: what a method, and the training inside it, may use besides the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecr.core.errors import RequestError
from edgecr.core.options import Options
from edgecr.core.progress import Monitor
from edgecr.core.step_record import write_record

if TYPE_CHECKING:
    from edgecr.data.views import LearningData
    from edgecr.latency import LatencyTable, LayerConfig
    from edgecr.subject import Subject


@dataclass(frozen=True)
class Execution:
    """The resources of the host's own work; results are promised to be bit-identical only for equal values."""

    threads: int = 0
    accelerator: str = "cpu"
    devices: int = 1
    allow_code: bool = False


PLAIN_FILES = "onnx"
"""The export target whose files are measured unless another one is named: float32."""


class DeviceLatencies:
    """The devices that a method may ask about, and files of export targets on them; this one knows none."""

    def align(self, device: str, target: str = PLAIN_FILES) -> int:
        """The multiple of channels that suits the kernels of a target's files on the device, before measuring any."""
        return 16

    def table(self, device: str, subject: Subject, batch: int, target: str = PLAIN_FILES) -> LatencyTable:
        """The device's latency table for files of a target, with the layers of this model."""
        raise _no_access(device)

    def measured(self, device: str, layers: Sequence[LayerConfig], target: str = PLAIN_FILES) -> LatencyTable:
        """The same table with these layers; what it lacks is measured."""
        raise _no_access(device)

    def whole(self, device: str, subjects: Sequence[Subject], batch: int, target: str = PLAIN_FILES) -> list[float]:
        """Milliseconds of whole models, measured beside each other on the device."""
        raise _no_access(device)


def _no_access(device: str) -> RequestError:
    return RequestError(
        f"Device {device!r} is not available: no device access here; run this step through `edgecr compress`."
    )


SNAPSHOTS = "snapshots"
"""The folder with states of a training in the folder of its step."""


def not_saved(update: int, saved: Iterable[int]) -> str:
    """The refusal to go back to a state that no training of the run keeps."""
    found = sorted(set(saved))
    wanted, known = sorted({*found, update}), ", ".join(map(str, found)) or "none"
    return (
        f"no training before this step keeps its state at update {update} (kept: {known}); "
        f"add `snapshots: {wanted}` to the train step that makes the model"
    )


def _no_baseline() -> Subject:
    raise RequestError("No baseline here; run this step through `edgecr compress`, or name another teacher.")


@dataclass(frozen=True)
class StepContext:
    """Everything a method may use besides the subject: data, a seed, a folder to resume from, a voice."""

    data: LearningData
    seed: int
    folder: Path
    execution: Execution = field(default_factory=Execution)
    monitor: Monitor = field(default_factory=Monitor)
    latencies: DeviceLatencies = field(default_factory=DeviceLatencies)
    baseline: Callable[[], Subject] = _no_baseline
    """Gives the model before the first step that compresses, for losses that compare with it."""

    snapshots: Mapping[int, Path] = field(default_factory=dict)
    """Files with the states of earlier trainings, by the update after which they were kept."""

    def snapshot(self, update: int) -> Path:
        """The file with the state of an earlier training after so many updates; a RequestError where none was kept."""
        if update not in self.snapshots:
            raise RequestError(f"Cannot go back: {not_saved(update, self.snapshots)}.")
        return self.snapshots[update]

    def refuse_several_devices(self, what: str) -> None:
        """Raises a RequestError for work whose state several training processes would not share."""
        if self.execution.devices != 1:
            raise RequestError(f"{what} on one device only: processes do not share it. Use --train-devices 1.")

    def record(self, name: str, noted: Options | Mapping[str, Any]) -> None:
        """Writes what the method did or found into the step's folder; every report of the run shows it.

        A ``StepRecord`` says itself how it is shown, and may hold budgets for the gate ``budget``.
        """
        write_record(self.folder, name, noted)
