"""The interface of runners, which bring files to a device, have them measured there, and return the measurement."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edgecr.core.errors import FileProblem, RequestError, SomeRaised, in_words
from edgecr.core.progress import Monitor
from edgecr.core.registry import Registry
from edgecr.runners.device import Device, Protocol, load_device
from edgecr.runners.manner import USUAL, Manner
from edgecr.runners.measurement.record import Measurement
from edgecr.runners.runtimes.tensorrt import TensorRtOptions
from edgecr.runners.several import at_once, without_exceptions
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
    "answers_itself",
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
    manner: Manner = USUAL

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
        manner: Manner = USUAL,
    ) -> MeasurePlan:
        """Every labelled file, with the ones that belong to it, with every batch size."""
        sizes, others = tuple(batches), beside or {}
        arms = tuple(
            Arm(label, path, runtime, batch, others.get(label, ()), (proofs or {}).get(label))
            for label, path in models.items()
            for batch in sizes
        )
        return cls(arms, launches, rounds, seed, manner)

    def protocol(self, device: Device) -> Protocol:
        """The device's protocol with this plan's overrides."""
        return self.manner.applied(device.protocol).override(launches=self.launches, rounds=self.rounds)

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

        for name in self.runtimes if self.manner.layers else ():
            options = device.runtime(name)
            if isinstance(options, TensorRtOptions) and not options.layers:
                raise RequestError(
                    f"Layers are asked for, but 'layers: false' of runtimes.{name} in {device.declared_in} leaves them "
                    "out. Remove it there, or ask without --layers."
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
    return UnitsRunner(device) if device.units else runners.get(device.transport.kind)(device)


class UnitsRunner(Runner):
    """Measures on several boards of one kind; each carries out the whole plan, so that no ratio spans two boards."""

    def measure(self, plan: MeasurePlan, monitor: Monitor | None = None) -> Measurement:
        """The measurement of the first unit that did not fail, with those of the others."""
        jobs = {unit: partial(self.one(unit).measure, plan) for unit in self.device.units}
        found = _of_units(at_once(jobs, monitor or Monitor()))
        first = next((one for one in found if one.error is None), found[0])
        device = self.device.model_copy(update={"protocol": first.device.protocol})
        return first.model_copy(update={"device": device, "others": tuple(one for one in found if one is not first)})

    def one(self, unit: str) -> Runner:
        """The runner of one unit."""
        return runner_for(self.device.unit(unit))


def _of_units(results: Mapping[str, Measurement | Exception]) -> list[Measurement]:
    """The measurement of each unit; an exception is a unit's error, unless all raised one."""
    try:
        found: Mapping[str, Measurement] = without_exceptions(results)
    except SomeRaised as error:
        like: Measurement = next(iter(error.found.values()))
        empty = Measurement(device=like.device, seed=like.seed, arms=like.arms)
        broken = {unit: empty.model_copy(update={"error": in_words(one)}) for unit, one in error.raised.items()}
        found = {unit: broken.get(unit) or error.found[unit] for unit in results}
    return [one.model_copy(update={"unit": unit}) for unit, one in found.items()]


def answers_itself(device: Device, runtimes: Iterable[str]) -> bool:
    """True for a board whose runtime for some files is asked about images there; this machine answers for others."""
    if runners.get(device.transport.kind).on_this_machine:
        return False
    found = next((name for name in runtimes if name in device.runtimes), None)
    return found is not None and device.runtimes[found].answers
