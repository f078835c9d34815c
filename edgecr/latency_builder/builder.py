"""Builds latency tables: the device's own agent measures every layer, and whole models to check the sum against."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from edgecr.core.errors import DeviceFailed, NotConfigured, WorkError
from edgecr.core.progress import Bar, Monitor
from edgecr.exporters.graph_target import GraphTarget
from edgecr.exporters.onnx.declaration import PLAIN
from edgecr.latency import (
    FLOATS,
    GAUGE,
    Calibration,
    CalibrationPoint,
    Clock,
    Entry,
    LatencyTable,
    LayerConfig,
    Machine,
    Staircase,
    fitted,
    usual,
)
from edgecr.latency_builder.forms import form_of, runtime_of
from edgecr.latency_builder.layer_models import input_shape, write_layer
from edgecr.latency_builder.stairs import costly, stair_counts, staircase
from edgecr.runners import fitness
from edgecr.runners.agent.protocol import Connection
from edgecr.runners.agent.runner import AgentRunner
from edgecr.runners.agent.session import MeasuringSession
from edgecr.runners.base import Arm, MeasurePlan, runner_for
from edgecr.runners.device import Device, Protocol
from edgecr.runners.measurement.record import Round
from edgecr.runners.measurement.summary import waiting

LAYERS_AT_ONCE = 32
"""Layers that share a process, interleaved; few enough that a break loses seconds."""
WEIGHTS_AT_ONCE = 64_000_000
"""Weights that share a process."""
SAVE_EVERY_S = 5.0
LAYER_PROTOCOL: Mapping[str, Any] = {
    "launches": 1,
    "rounds": 5,
    "round_s": 0.015,
    "least_rounds": 5,
    "warmup": {"tolerance": 0.1, "window_s": 0.01, "max_s": 0.08},
}
"""A seventh of a second for a layer."""
MODEL_PROTOCOL: Mapping[str, Any] = {
    "launches": 1,
    "rounds": 9,
    "round_s": 0.15,
    "least_rounds": 9,
    "warmup": {"tolerance": 0.05, "window_s": 0.1, "max_s": 1.0},
}
"""About two seconds for a whole model."""
SESSIONS = 3
"""Most measurements of the same thing while the gauge shows that the device is slower than usual."""
CALM = 0.03
"""A round that waited for the processor for a larger share ran with caches that others had emptied."""


@dataclass(frozen=True)
class Model:
    """A whole model in a file, and its layers."""

    name: str
    path: Path
    layers: Sequence[LayerConfig]
    beside: tuple[str, ...] = ()
    """Files that belong to it, in its folder."""


@dataclass(frozen=True)
class Weighed:
    """A whole model as it was measured, by the table's clock and by elapsed time."""

    evidence: CalibrationPoint
    wall_ms: float


@dataclass(frozen=True)
class Prediction:
    """The latency of a model as a table predicts it, and as it was measured."""

    model: str
    predicted_ms: float
    measured_ms: float
    wall_ms: float

    @classmethod
    def by(cls, calibration: Calibration, weighed: Weighed) -> Prediction:
        """Applies a calibration to the sum of the layers."""
        one = weighed.evidence
        return cls(one.model, calibration.apply(one.sums), one.measured_ms, weighed.wall_ms)

    @property
    def error(self) -> float:
        """The relative error of the prediction."""
        return self.predicted_ms / self.measured_ms - 1


FOLDER = Path("latency")
"""The default folder of tables."""


def default_path(device: Device, runtime: str, target: GraphTarget = PLAIN) -> Path:
    """The default path of a device's table for files of a target's form."""
    threads, form = device.runtime_options(runtime)["threads"], form_of(target)
    return FOLDER / f"{device.name}-{runtime}-t{threads}{'' if form == FLOATS else '-' + form}.json"


def build_command(device: Device, runtime: str, target: GraphTarget) -> str:
    """The command that builds the table of a device for files of a target."""
    words = ["edgecr latency-table build MODEL", f"--device {device.name}"]
    if form_of(target) != FLOATS:
        words.append(f"--target {target.name}")
    if runtime_of(device, target) != runtime:
        words.append(f"--runtime {runtime}")
    return " ".join(words)


def natural_clock(device: Device, runtime: str) -> Clock:
    """Processor time where it equals an undisturbed latency: one thread that never spins, on the processor."""
    return "cpu" if device.runtime(runtime).cpu_time_is_latency else "wall"


def machine_of(device: Device, runtime: str, facts: Mapping[str, Any], target: GraphTarget = PLAIN) -> Machine:
    """The machine and the form of files that a table of this device holds for, by the facts that its agent reports."""
    options, packages = device.runtime_options(runtime), device.runtime(runtime).packages
    libraries = facts.get("libraries", {})
    versions = [libraries[name] for name in packages if name in libraries]
    if not versions:
        raise DeviceFailed(
            f"{device.name} has no {' or '.join(packages)} that its agent can find. "
            "Install it there with the Python that the device file names."
        )
    return Machine(
        device=device.name,
        processor=facts.get("model") or facts.get("cpu") or facts.get("machine") or "unknown",
        runtime=runtime,
        version=versions[0],
        threads=options.pop("threads"),
        settings=options,
        files=form_of(target),
    )


def declared_machine(device: Device, runtime: str, table: LatencyTable, target: GraphTarget = PLAIN) -> Machine:
    """The machine as the device file declares it; processor and version are taken from the table unchecked."""
    options = device.runtime_options(runtime)
    declared = {"device": device.name, "runtime": runtime, "threads": options.pop("threads"), "settings": options}
    return table.machine.model_copy(update=declared | {"files": form_of(target)})


class TableBuilder:
    """A session with a device and the table that it fills, for files of a target; use it as a context manager.

    What was measured is in the file a few seconds later, whatever happens then: the same command goes on from there.
    Without ``warn`` it does not say that the device is busy, for callers that have heard so.
    """

    def __init__(
        self,
        device: Device,
        runtime: str = "ort",
        path: Path | None = None,
        *,
        target: GraphTarget = PLAIN,
        clock: Clock | None = None,
        monitor: Monitor | None = None,
        warn: bool = True,
    ) -> None:
        runner = runner_for(device)
        if not isinstance(runner, AgentRunner):
            raise NotConfigured(f"Device {device.name!r} is not reached through the agent; it has no latency table.")
        self.device, self.runtime, self.target = device, runtime_of(device, target, runtime), target
        self.path = path or default_path(device, runtime, target)
        self.monitor = monitor or Monitor()
        self._runner, self._clock, self._warn = runner, clock or natural_clock(device, runtime), warn
        self._saved_at = time.monotonic()

    def __enter__(self) -> TableBuilder:
        self._agent: Connection = self._runner.connect()
        try:
            self.table = self._saved = self._opened()
        except BaseException:
            self._agent.kill()
            raise
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            self._save()
        finally:
            self._agent.__exit__(kind, error, trace)

    def _opened(self) -> LatencyTable:
        """The table of the file if it belongs to this device, or a new one."""
        facts = fitness.ask(self._agent)
        fitness.refuse_unexpected(self.device, facts)
        for text in fitness.before(self.device, facts) if self._warn else ():
            self.monitor.warn(text)
        machine = machine_of(self.device, self.runtime, facts, self.target)
        if self.path.exists():
            return LatencyTable.load(self.path, machine, build_command(self.device, self.runtime, self.target))
        return LatencyTable(machine=machine, clock=self._clock, facts=facts, protocol=dict(LAYER_PROTOCOL))

    def _save(self) -> None:
        if self.table is not self._saved:
            self.table.save(self.path)
        self._saved, self._saved_at = self.table, time.monotonic()

    def measure(self, configs: Iterable[LayerConfig]) -> int:
        """Measures the layers that the table lacks; returns how many those were.

        Those that were measured while the device was slowed down are measured again after all others.
        """
        missing = self.table.missing(configs)
        todo: Sequence[LayerConfig] = missing
        for _ in range(SESSIONS):
            if todo:
                self._measure(todo, missing)
                todo = self.table.disturbed(missing)
        if todo:
            self._tell_disturbed(f"{len(todo)} of {len(missing)} layers")
        return len(missing)

    def _measure(self, todo: Sequence[LayerConfig], every: Sequence[LayerConfig]) -> None:
        """Adds rounds of some layers to the table."""
        device = self._timed_as(LAYER_PROTOCOL)
        with self.monitor.bar(f"layers on {self.device.name}", len(todo)) as bar:
            for batch in batches(todo):
                try:
                    entries = self._entries(device, batch)
                except DeviceFailed as error:
                    done = len(every) - len(self.table.missing(every))
                    raise DeviceFailed(
                        f"{error} {done} of {len(every)} layers were measured and are kept in "
                        f"{self.path}; the same command goes on from there."
                    ) from error
                self._add(batch, entries)
                bar.advance(len(batch))

    def _add(self, batch: Sequence[LayerConfig], entries: Sequence[Entry]) -> None:
        """Keeps what was measured, beside earlier rounds of the same layers."""
        known = self.table.entries
        found = {config.key: entry for config, entry in zip(batch, entries)}
        self.table = self.table.extended(
            {key: known[key].joined(entry) if key in known else entry for key, entry in found.items()}
        )
        if time.monotonic() - self._saved_at > SAVE_EVERY_S:
            self._save()

    def _tell_disturbed(self, what: str) -> None:
        self.monitor.warn(
            f"{self.device.name}: {what} could only be measured while the device was slower than usual. "
            "Other programs, other guests of its host or heat slow it down; trust those times less."
        )

    def _entries(self, device: Device, batch: Sequence[LayerConfig]) -> list[Entry]:
        """Some layers, measured interleaved in one process."""
        with tempfile.TemporaryDirectory(prefix="edgecr-layers-") as folder:
            paths = [Path(folder) / f"{number}.onnx" for number in range(len(batch))]
            for config, path in zip(batch, paths):
                write_layer(config, path, self.target)
            arms = [Arm(config.key, path, self.runtime, input_shape(config)[0]) for config, path in zip(batch, paths)]
            return self._beside_gauge(device, arms)

    def _beside_gauge(self, device: Device, arms: Sequence[Arm]) -> list[Entry]:
        """The arms, measured interleaved with the gauge."""
        with tempfile.TemporaryDirectory(prefix="edgecr-gauge-") as folder:
            path = Path(folder) / "gauge.onnx"
            write_layer(GAUGE, path)
            *rounds, gauge = self._session(device, [*arms, Arm("gauge", path, self.runtime, GAUGE.batch)])
        return [entry_of(own, gauge, self.table.clock) for own in rounds]

    def _session(self, device: Device, arms: Sequence[Arm]) -> list[list[Round]]:
        session = MeasuringSession(device, MeasurePlan(tuple(arms)), Monitor())
        session.send_files(self._agent)
        session.launch(self._agent, 0, Bar())
        found = [one for launch in session.launches for one in launch.rounds]
        by_arm = [[one for one in found if one.arm == number] for number in range(len(arms))]
        if not all(by_arm):
            raise WorkError(f"{self.device.name} sent no rounds for some layers; nothing was kept of them.")
        return by_arm

    def _timed_as(self, protocol: Mapping[str, Any]) -> Device:
        return self.device.model_copy(update={"protocol": Protocol.parse(dict(protocol))})

    def find_staircases(self, configs: Iterable[LayerConfig]) -> list[Staircase]:
        """Measures how the most expensive layers follow their output channels; stores what was found."""
        chosen = costly(configs)
        curves = {config: stair_counts(config) for config in chosen}
        self.measure(config.resized("cout", count) for config, counts in curves.items() for count in counts)
        found = [staircase(c, "cout", counts, self.table.curve(c, "cout", counts)) for c, counts in curves.items()]
        self.table = self.table.with_staircases(found)
        return found

    def weigh(self, models: Sequence[Model]) -> list[Weighed]:
        """Whole models, measured interleaved in one process, beside the sums of their layers."""
        self.measure(config for model in models for config in model.layers)
        device = self._timed_as(MODEL_PROTOCOL)
        arms = [Arm(one.name, one.path, self.runtime, one.layers[0].batch, one.beside) for one in models]
        entries = self._beside_gauge(device, arms)
        for _ in range(SESSIONS - 1):
            if any(entry.disturbed(self._usual(entries)) for entry in entries):
                entries = [one.joined(more) for one, more in zip(entries, self._beside_gauge(device, arms))]
        if any(entry.disturbed(self._usual(entries)) for entry in entries):
            self._tell_disturbed("whole models")
        return [self._weighed(model, entry, self._usual(entries)) for model, entry in zip(models, entries)]

    def _usual(self, entries: Sequence[Entry]) -> float:
        """The gauge's time on this device when nothing slows it down, in nanoseconds."""
        return usual([*self.table.gauge_ns, *entries[0].gauge_ns])

    def _weighed(self, model: Model, entry: Entry, usual_ns: float) -> Weighed:
        measured = entry.milliseconds(self.table.clock, usual_ns)
        found = CalibrationPoint(model=model.name, sums=self.table.sums(model.layers), measured_ms=measured)
        return Weighed(found, entry.milliseconds("wall", usual_ns))

    def check(self, models: Sequence[Model]) -> list[Prediction]:
        """Fits the calibration to whole models; each is predicted by a fit to all the others."""
        weighed = self.weigh(models)
        self.table = self.table.calibrated(one.evidence for one in weighed)
        every = self.table.calibration.evidence
        return [
            Prediction.by(fitted(tuple(other for other in every if other.model != one.evidence.model)), one)
            for one in weighed
        ]


def entry_of(rounds: Sequence[Round], gauge: Sequence[Round], clock: Clock) -> Entry:
    """The samples of one arm from its rounds: those that had a processor to themselves, if there were two."""
    calm = [one for one in rounds if (waiting([one]) or 0.0) < CALM]
    kept = calm if len(calm) > 1 else rounds
    beside = {one.number: _call_ns(one, clock) for one in gauge}
    return Entry(
        wall_ns=tuple(round(median(one.ns)) for one in kept),
        cpu_ns=tuple(None if one.run_ns is None else one.run_ns // len(one.ns) for one in kept),
        gauge_ns=tuple(beside[one.number] for one in kept),
    )


def _call_ns(one: Round, clock: Clock) -> int:
    """One call of a round by a clock; by elapsed time where the kernel tells no other."""
    return round(median(one.ns)) if clock == "wall" or one.run_ns is None else one.run_ns // len(one.ns)


def batches(configs: Sequence[LayerConfig]) -> Iterable[list[LayerConfig]]:
    """Layers in their order, as many together as fit into one process."""
    batch: list[LayerConfig] = []
    weights = 0
    for config in configs:
        if batch and (len(batch) == LAYERS_AT_ONCE or weights + config.weights > WEIGHTS_AT_ONCE):
            yield batch
            batch, weights = [], 0
        batch.append(config)
        weights += config.weights
    if batch:
        yield batch
