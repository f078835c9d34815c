"""The interface of runners, which bring files to a device, have them measured there, and return the measurement."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edgecr.core.errors import FileProblem, RequestError
from edgecr.core.progress import Monitor
from edgecr.core.registry import Registry
from edgecr.runners.device import Device, Protocol, load_device
from edgecr.runners.measurement.record import Measurement
from edgecr.runners.trust import require_trust, usable_device

if TYPE_CHECKING:
    from edgecr.runners.tensorrt.answers import EngineAnswers
    from edgecr.runners.tensorrt.engine import EngineParity

__all__ = [
    "Arm",
    "Device",
    "MeasurePlan",
    "Measurement",
    "Runner",
    "load_device",
    "runner_for",
    "runners",
    "usable_device",
]


@dataclass(frozen=True)
class Arm:
    """One thing to measure: a file, in a runtime, with a batch size, under a label such as ``baseline``."""

    label: str
    path: Path
    runtime: str = "ort"
    batch: int = 1
    beside: tuple[str, ...] = ()
    """Files that belong to it, by their place in its folder; those that an ONNX file names are found without."""
    proof: Callable[[EngineAnswers], EngineParity] | None = field(default=None, compare=False)
    """Compares the answers of its engine with those that the file should give; for TensorRT."""


@dataclass(frozen=True)
class MeasurePlan:
    """The arms to measure in one session; ``launches`` and ``rounds`` override the device's protocol."""

    arms: tuple[Arm, ...]
    launches: int | None = None
    rounds: int | None = None
    seed: int = 0

    @classmethod
    def of(
        cls,
        models: Mapping[str, Path],
        batches: Iterable[int],
        runtime: str = "ort",
        *,
        launches: int | None = None,
        rounds: int | None = None,
        seed: int = 0,
        beside: Mapping[str, tuple[str, ...]] | None = None,
        proofs: Mapping[str, Callable[[EngineAnswers], EngineParity]] | None = None,
    ) -> MeasurePlan:
        """Every labelled file, with the ones that belong to it, with every batch size."""
        sizes, others = tuple(batches), beside or {}
        arms = tuple(
            Arm(label, path, runtime, batch, others.get(label, ()), (proofs or {}).get(label))
            for label, path in models.items()
            for batch in sizes
        )
        return cls(arms, launches, rounds, seed)

    def protocol(self, device: Device) -> Protocol:
        """The device's protocol with this plan's overrides."""
        return device.protocol.override(launches=self.launches, rounds=self.rounds)

    def check(self, device: Device) -> None:
        """Refuses a plan that cannot be carried out, before the board is bothered."""
        if not self.arms:
            raise RequestError("There is nothing to measure: the plan has no arms.")
        for count, name in ((self.launches, "launches"), (self.rounds, "rounds")):
            if count is not None and count < 1:
                raise RequestError(f"{name} must be at least 1 (got {count}).")
        for arm in self.arms:
            device.runtime_options(arm.runtime)
            if arm.batch < 1:
                raise RequestError(f"The batch of {arm.label!r} must be at least 1 (got {arm.batch}).")
            if not arm.path.is_file():
                raise FileProblem(f"{arm.path} does not exist (to be measured as {arm.label!r}).")
        if len({(arm.label, arm.runtime, arm.batch) for arm in self.arms}) < len(self.arms):
            raise RequestError("Two arms have the same label, runtime and batch; give them different labels.")
        if len(self.runtimes) > 1 and self.by_tool(device):
            raise RequestError(
                f"The runtimes {' and '.join(self.runtimes)} cannot be measured in one session: a program of its own "
                "times one of them, so that their turns cannot alternate. Measure them apart."
            )

    @property
    def runtimes(self) -> tuple[str, ...]:
        """The runtimes of the arms, each once."""
        return tuple(dict.fromkeys(arm.runtime for arm in self.arms))

    def by_tool(self, device: Device) -> bool:
        """True where a program of the board times an arm."""
        return any(device.runtime(name).by_tool for name in self.runtimes)


class Runner(ABC):
    """Measures on one device."""

    on_this_machine: ClassVar[bool] = False
    """True when the device is the machine that EdgeCR runs on: this process may then answer for it."""

    def __init__(self, device: Device) -> None:
        require_trust(device)
        self.device = device

    @abstractmethod
    def measure(self, plan: MeasurePlan, monitor: Monitor | None = None) -> Measurement:
        """Carries out the plan; a board's failure is ``error`` in the result, beside what it had sent."""


runners: Registry[type[Runner]] = Registry("transport")


def runner_for(device: Device) -> Runner:
    """The runner of a device; NotTrusted for a foreign one, NotConfigured when it does not say where the board is."""
    return runners.get(device.transport.kind)(device)
