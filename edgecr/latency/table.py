"""The latency table as data: what each layer takes on one device. Runners write it, methods read it.

A table belongs to one machine, runtime, version and thread count, and says so. A figure that nobody measured
is an error, or is asked for as an estimate and marked as one; it is never quietly made up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import Field

from edgecr.core.errors import FileProblem, RequestError
from edgecr.core.files import fingerprint, read_json, refused_as, write_json
from edgecr.core.options import Options
from edgecr.latency.calibration import Calibration, CalibrationPoint, Sums, fitted
from edgecr.latency.interpolation import Counts, Pair, Surface, Values
from edgecr.latency.layer import Dimension, LayerConfig

SCHEMA = 2
FLOATS = "onnx"
"""The form of files in float32."""
DISTURBED, ENOUGH = 1.08, 2
"""Largest gauge time of a round that counts, relative to the usual one; number of rounds that have to count."""
Sample = TypeVar("Sample", int, int | None)
Clock = Literal["cpu", "wall"]
"""Processor time of a call (right for one thread, hardly disturbed by other programs), or elapsed time."""


class MissingEntry(RequestError):
    """A layer that the latency table does not hold."""

    def __init__(self, key: str, device: str) -> None:
        self.key = key
        super().__init__(
            f"The latency table of {device!r} has no entry for '{key}'. Measure it with "
            "`edgecr latency-table build`, or ask for an estimate."
        )


GAUGE = LayerConfig("conv", 16, 16, 1, 32, 32, (3, 3), padding=(1, 1))
"""A small layer that is measured beside everything else: where it is slow, something else slows the device down."""


def usual(gauge_ns: Iterable[int]) -> float:
    """The gauge's time on an undisturbed device: the 10th percentile of its rounds; 0 without any."""
    known = sorted(gauge_ns)
    return float(known[len(known) // 10]) if known else 0.0


class Machine(Options):
    """The conditions that a table holds for; a device that differs in any of them needs a table of its own."""

    device: str
    """Name of the device declaration."""
    processor: str
    runtime: str
    version: str
    """Version of the runtime."""
    threads: int
    settings: dict[str, Any] = Field(default_factory=dict)
    """All settings of the runtime."""
    files: str = FLOATS
    """Form of the files that are measured, as far as speed depends on it: format, precision and kind of rounding."""

    def differences(self, other: Machine) -> list[str]:
        """The differences from another machine, in words."""
        mine, others = self.model_dump(mode="json"), other.model_dump(mode="json")
        return [f"{name} is {mine[name]!r} there, {others[name]!r} here" for name in mine if mine[name] != others[name]]


class Entry(Options):
    """Raw samples of one layer: one figure a round, in nanoseconds of one call."""

    wall_ns: tuple[int, ...] = Field(min_length=1)
    """Median of the calls of each round."""
    cpu_ns: tuple[int | None, ...] = Field(min_length=1)
    """Processor time of all threads in each round, by call; None where the kernel does not tell."""
    gauge_ns: tuple[int, ...] = ()
    """One call of the gauge in each round, by the table's clock; rounds from before there was one come last."""

    def joined(self, more: Entry) -> Entry:
        """The rounds of both, those with a gauge beside them first."""
        mine, others = len(self.gauge_ns), len(more.gauge_ns)

        def both(one: tuple[Sample, ...], other: tuple[Sample, ...]) -> tuple[Sample, ...]:
            return one[:mine] + other[:others] + one[mine:] + other[others:]

        return Entry(
            wall_ns=both(self.wall_ns, more.wall_ns),
            cpu_ns=both(self.cpu_ns, more.cpu_ns),
            gauge_ns=self.gauge_ns + more.gauge_ns,
        )

    @property
    def _calmest_ns(self) -> int:
        """The largest gauge time of the calmest rounds, which count in any case."""
        return sorted(self.gauge_ns)[:ENOUGH][-1] if self.gauge_ns else 0

    def disturbed(self, usual_ns: float) -> bool:
        """Returns True if too few rounds count, because something slowed the device down."""
        return self._calmest_ns > DISTURBED * usual_ns

    def milliseconds(self, clock: Clock, usual_ns: float = 0.0) -> float:
        """The lower quartile of the rounds in which the gauge was as fast as usual, or of the calmest.

        Other programs only ever add time, and often to several rounds.
        """
        most = max(DISTURBED * usual_ns, self._calmest_ns)
        samples = self.cpu_ns if clock == "cpu" else self.wall_ns
        beside = zip_longest(samples, self.gauge_ns, fillvalue=0)
        known = sorted(ns for ns, gauge in beside if ns is not None and (gauge or 0) <= most)
        if not known:
            raise RequestError("This entry has no processor times; build a table by elapsed time (--clock wall).")
        return known[(len(known) - 1) // 4] / 1e6


class Staircase(Options):
    """The latency of one layer as a function of one channel count, and the multiple at which it steps."""

    layer: str
    """Key of the layer with all its channels."""
    dimension: Dimension
    counts: tuple[int, ...]
    milliseconds: tuple[float, ...]
    step: int
    """1 where latency follows the count without steps."""
    unexplained: float
    """Residual of steps of that size: root mean square, relative to the mean."""


def common_step(found: Iterable[Staircase]) -> int:
    """The multiple that most layers step at; of several the largest (1: no staircase)."""
    steps = sorted((one.step for one in found), reverse=True)
    return max(dict.fromkeys(steps), key=steps.count) if steps else 1


@dataclass(frozen=True)
class Latency:
    """A time in milliseconds; ``estimated`` lists the layers that were not measured but interpolated."""

    ms: float
    estimated: tuple[str, ...] = ()


class LatencyTable(Options):
    """The latency of each layer on one machine, with the raw samples it is derived from."""

    schema_version: Literal[2] = 2
    machine: Machine
    clock: Clock
    facts: dict[str, Any] = Field(default_factory=dict)
    """The state of the machine when the table was begun."""
    protocol: dict[str, Any] = Field(default_factory=dict)
    """The protocol that each entry was measured by: rounds, their duration, warm-up."""
    entries: dict[str, Entry] = Field(default_factory=dict)
    staircases: tuple[Staircase, ...] = ()
    calibration: Calibration = Calibration()

    # The file.

    def save(self, path: Path) -> None:
        """Writes the table with the hash of its content, atomically."""
        content = self.model_dump(mode="json")
        write_json(path, content | {"content_sha256": fingerprint(content)})

    @classmethod
    def load(cls, path: Path, machine: Machine | None = None, build: str = "") -> LatencyTable:
        """Reads a table; one that was edited, or belongs to another machine, is refused.

        ``build`` is the command that builds the right one.
        """
        content = read_json(path)
        if not isinstance(content, dict) or content.get("schema_version") != SCHEMA:
            raise FileProblem(f"{path} is not a latency table of this version of EdgeCR (schema {SCHEMA}).")
        if content.pop("content_sha256", None) != fingerprint(content):
            raise FileProblem(
                f"{path} was changed after it was measured: its hash does not fit its content. "
                "Restore it, or build the table again."
            )
        with refused_as(f"{path} is not a latency table"):
            table = cls.parse(content)
        if machine is not None:
            table.require(machine, str(path), build)
        return table

    def require(self, machine: Machine, name: str = "the latency table", build: str = "") -> None:
        """Refuses the table when it was measured on another machine than this, or of other files."""
        wrong = self.machine.differences(machine)
        if wrong:
            command = f" with `{build}`" if build else ""
            raise RequestError(
                f"{name} was measured under other conditions: {'; '.join(wrong)}. Build a table "
                f"for these{command}, or name another file with --table."
            )

    # Reading it.

    def __contains__(self, config: LayerConfig) -> bool:
        return config.key in self.entries

    def missing(self, configs: Iterable[LayerConfig]) -> list[LayerConfig]:
        """The layers that are not in the table, each once."""
        return [config for config in dict.fromkeys(configs) if config not in self]

    def disturbed(self, configs: Iterable[LayerConfig]) -> list[LayerConfig]:
        """The layers that were measured while the device was slower than usual."""
        return [config for config in configs if config in self and self.entries[config.key].disturbed(self._usual_ns)]

    @property
    def gauge_ns(self) -> list[int]:
        """The gauge in all rounds of all layers."""
        return [ns for entry in self.entries.values() for ns in entry.gauge_ns]

    @cached_property
    def _usual_ns(self) -> float:
        return usual(self.gauge_ns)

    @cached_property
    def _known(self) -> dict[str, float]:
        return {key: entry.milliseconds(self.clock, self._usual_ns) for key, entry in self.entries.items()}

    def latency(self, config: LayerConfig, *, estimate: bool = False) -> Latency:
        """The time of one layer; one that was not measured raises MissingEntry, or is estimated on demand."""
        if min(config.cin, config.cout) < 1:
            return Latency(0.0)
        known = self._known.get(config.key)
        if known is not None:
            return Latency(known)
        guess = self._interpolated(config) if estimate else None
        if guess is None:
            raise MissingEntry(config.key, self.machine.device)
        return Latency(guess, (config.key,))

    def curve(
        self, config: LayerConfig, dimension: Dimension, counts: Sequence[int], *, estimate: bool = False
    ) -> list[float]:
        """Milliseconds of a layer for several numbers of inputs or outputs."""
        return [self.latency(config.resized(dimension, count), estimate=estimate).ms for count in counts]

    def network_latency(self, configs: Iterable[LayerConfig], *, estimate: bool = False) -> Latency:
        """The time of a whole model: the sum of its layers, calibrated."""
        layers = tuple(configs)
        sums = self.sums(layers, estimate=estimate)
        guessed = self.missing(config for config in layers if min(config.cin, config.cout) > 0)
        return Latency(self.calibration.apply(sums), tuple(config.key for config in guessed))

    @property
    def step(self) -> int:
        """The multiple of channels at which latency steps on this device; 1 where no staircase is known."""
        return common_step(self.staircases)

    def sums(self, configs: Sequence[LayerConfig], *, estimate: bool = False) -> Sums:
        """The totals over the layers of a model, before calibration."""
        return Sums.of(sum(self.latency(config, estimate=estimate).ms for config in configs), configs)

    # Between measured counts.

    @cached_property
    def _surfaces(self) -> dict[LayerConfig, Surface]:
        """Measured times by (cin, cout), for layers that differ in nothing else.

        Whether a layer loses whole groups or channels of each group was decided when it was whole, and its counts do
        not tell any more: so each layer stands among those with as many groups, and among those with as wide ones.
        """
        families: dict[LayerConfig, dict[Pair, float]] = {}
        for key, ms in self._known.items():
            config = LayerConfig.of(key)
            for family in (_as_many(config), _as_wide(config)):
                families.setdefault(family, {})[config.cin, config.cout] = ms
        return {family: Surface(cells) for family, cells in families.items()}

    def over_outputs(self, config: LayerConfig, couts: Counts) -> Values:
        """Milliseconds of a layer with other numbers of outputs; not a number where too little was measured.

        Of tied layers whole groups go, so inputs go with outputs; others keep their inputs.
        """
        if config.tied:
            return self._surface(_as_wide(config)).along(config.cout / config.cin, couts * config.cin // config.cout)
        return self._surface(_as_many(config)).at(config.cin, couts)

    def _surface(self, family: LayerConfig) -> Surface:
        return self._surfaces.get(family, _UNKNOWN)

    def _interpolated(self, config: LayerConfig) -> float | None:
        """From measured layers with as many groups or as wide ones, those first that lose channels as it does now."""
        many = self._surface(_as_many(config)).at(config.cin, np.array([config.cout]))
        wide = self._surface(_as_wide(config)).along(config.cout / config.cin, np.array([config.cin]))
        first, second = (wide, many) if config.tied else (many, wide)
        found = float(second[0] if np.isnan(first[0]) else first[0])
        return None if np.isnan(found) else found

    # Growing it.

    def extended(self, entries: Mapping[str, Entry]) -> LatencyTable:
        """The table with more entries; nothing that it holds is lost."""
        return self._with(entries={**self.entries, **entries})

    def with_staircases(self, found: Iterable[Staircase]) -> LatencyTable:
        """The table with more staircases; a newer one of the same layer wins."""
        both = {(one.layer, one.dimension): one for one in (*self.staircases, *found)}
        return self._with(staircases=tuple(both.values()))

    def calibrated(self, evidence: Iterable[CalibrationPoint]) -> LatencyTable:
        """The table with its calibration fitted to more models; a newer measurement of a model wins."""
        both = {one.model: one for one in (*self.calibration.evidence, *evidence)}
        return self._with(calibration=fitted(tuple(both.values())))

    def _with(self, **changes: Any) -> LatencyTable:
        """A copy without what was derived from the old values."""
        values = {name: getattr(self, name) for name in LatencyTable.model_fields}
        return LatencyTable.model_construct(**(values | changes))


def _as_many(config: LayerConfig) -> LayerConfig:
    """The common key of layers that differ in their channel counts only."""
    return replace(config, cin=0, cout=0)


def _as_wide(config: LayerConfig) -> LayerConfig:
    """The common key of layers that differ in the number of their groups only; the narrowest has a single group."""
    return replace(config, cin=0, cout=0, groups=-config.cin // config.groups)


_UNKNOWN = Surface({})
