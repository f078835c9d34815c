"""The one model of a run's outcome: every table, page and verdict is drawn from it and from nothing else.

History of the format: 1, the first; 2, every target a candidate: rows name their target, ``candidates`` are judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from edgecr.core.errors import FileProblem
from edgecr.core.estimate import Estimate
from edgecr.core.files import read_json, refused_as, write_json
from edgecr.core.step_record import Cell
from edgecr.robustness.conditions import MEAN as MEAN  # the row of an accuracy table that averages over a suite
from edgecr.robustness.examples import Example

SCHEMA = 2
FAILED = "tells of a failure: "
"""The beginning of the problem with a record of a stage that failed, and was not tampered with."""
BASELINE, CANDIDATE = "baseline", "candidate"
NOT_VERIFIED = "not verified"
"""The fact about a step that says why none of its figures are shown."""


class Status(str, Enum):
    """The outcome of one gate."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCOMPLETE = "INCOMPLETE"


class Verdict(str, Enum):
    """The outcome of all gates together."""

    SHIP = "SHIP"
    DONT_SHIP = "DON'T SHIP"
    INCOMPLETE = "INCOMPLETE"


@dataclass(frozen=True)
class WeightRow:
    """The weights of a model: those that are not zero, their work, and the bytes of all in each form of storage."""

    nonzeros: int
    sparse_macs: int
    without_places: int
    dense: int
    mask: int
    gaps: int
    signs: int
    compact: int


@dataclass(frozen=True)
class ModelRow:
    """One role's model as counted, and the exported file that was judged."""

    role: str
    architecture: str
    parameters: int | None = None
    macs: int | None = None
    size_bytes: int | None = None
    target: str = ""
    evidence: list[str] = field(default_factory=list)
    """Files of the run that the row rests on."""
    file: str = ""
    """Path of the exported file, relative to the run's folder."""
    uncounted: bool = False
    """True where nobody counts parameters and MACs, as in files from elsewhere."""
    weights: WeightRow | None = None
    """None where nobody counted them."""


@dataclass(frozen=True)
class ExportRow:
    """One exported file with its proofs: numeric parity and removal receipt."""

    role: str
    target: str
    file: str
    format: str
    precision: str
    size_bytes: int
    sha256: str
    parity: dict[str, Any] = field(default_factory=dict)
    receipt: dict[str, Any] = field(default_factory=dict)
    rounding: dict[str, Any] = field(default_factory=dict)
    """The record of how numbers of fewer bits were made; empty for files that have none."""


@dataclass(frozen=True)
class AccuracyRow:
    """Both roles under one condition of a suite: ``clean``, a corruption, or their ``mean``."""

    suite: str
    condition: str
    baseline: Estimate | None = None
    candidate: Estimate | None = None
    delta: Estimate | None = None
    """Candidate minus baseline, from paired answers."""
    agreement: Estimate | None = None
    """Share of images that both answered alike."""
    divergence: Estimate | None = None
    """Mean distance of the candidate's outputs from the baseline's."""
    constant: float | None = None
    """The agreement that is reached without a look at the images: always the baseline's commonest answer."""
    evidence: list[str] = field(default_factory=list)
    """Files of the run that the row rests on."""
    metric: str = "accuracy"
    """The task's mean score, in words."""
    distance: str = ""
    """The task's name for the divergence; empty where it has none."""
    target: str = ""
    """The target whose files answered."""
    chance: float | None = None
    """The mean score that is reached without a look at the images."""
    error: str = ""
    """Reason why a role has no figure."""
    device: str = ""
    """The board that answered; empty for the machine that EdgeCR runs on."""


@dataclass(frozen=True)
class LayerRow:
    """One layer of an engine and its time in one inference."""

    name: str
    kind: str
    precision: str
    ms: float


@dataclass(frozen=True)
class EngineRow:
    """An engine that a board built, and what its layers take."""

    tensorrt: str
    gpu: str
    capability: str
    seconds: float
    cached: bool
    size_bytes: int
    device_mib: float | None = None
    """Memory that an inference takes beside the engine."""
    wall_ms: float | None = None
    """Mean time from call to call on the host."""
    images: int = 0
    """Images that it was asked about on the board, to compare its answers."""
    agreement: float | None = None
    """Share of them that it answers as its file should."""
    reformats: float | None = None
    """Share of the layers' time that only reorders values."""
    precisions: dict[str, float] = field(default_factory=dict)
    """Share of the layers' time by the number format that they read."""
    layers: list[LayerRow] = field(default_factory=list)

    @property
    def layers_ms(self) -> float:
        """The time of all layers."""
        return sum(layer.ms for layer in self.layers)


@dataclass(frozen=True)
class Timing:
    """The performance of one role on a device at one batch size; figures that the samples cannot support are None."""

    p50: Estimate | None = None
    p90: Estimate | None = None
    p99: Estimate | None = None
    throughput: Estimate | None = None
    memory: Estimate | None = None
    load: Estimate | None = None
    first: Estimate | None = None
    cpu: Estimate | None = None
    """Processor time of one inference."""
    board_memory: Estimate | None = None
    """Memory that the whole board lacked at most; where a GPU shares it, the GPU's is in it."""
    energy: Estimate | None = None
    """Energy of one inference, of the rails that its note names."""
    energy_net: Estimate | None = None
    """The same without what the idle board takes."""
    missing: dict[str, str] = field(default_factory=dict)
    """Reasons for absent figures, by field."""
    doubts: list[str] = field(default_factory=list)
    """The measurer's warnings about the figures that there are: drift, warm-up, launches left out."""
    engine: EngineRow | None = None
    """The engine, at the batch size that it was first measured with."""


@dataclass(frozen=True)
class MinuteRow:
    """One minute of a long measurement: the median milliseconds of each role, and the state of the board."""

    number: int
    ms: dict[str, float]
    temperature_c: float | None = None
    gpu_mhz: float | None = None
    cpu_mhz: float | None = None
    events: str = ""
    """Throttling and over-current events."""


@dataclass(frozen=True)
class LatencyRow:
    """One device at one batch size; ``error`` says why there is no figure."""

    device: str
    batch: int | None
    arms: dict[str, Timing] = field(default_factory=dict)
    ratios: dict[str, Estimate] = field(default_factory=dict)
    """Candidate over baseline by quantity (p50, throughput ...), paired where measured interleaved."""
    error: str = ""
    partial: str = ""
    """Reason why the measurement is not complete; figures are shown, gates on them are INCOMPLETE."""
    doubts: list[str] = field(default_factory=list)
    """Warnings about the device while this row was measured: clock, temperature, other programs."""
    evidence: list[str] = field(default_factory=list)
    """Files of the run that the row rests on."""
    target: str = ""
    """The target whose files were measured."""
    identity: dict[str, str] = field(default_factory=dict)
    """Runtime and version, release, board and power mode: measurements that differ in these are not compared."""
    minutes: list[MinuteRow] = field(default_factory=list)
    """The course of a measurement that took several minutes."""
    course: str = ""
    """The difference between its first minute and its last, in words."""


@dataclass(frozen=True)
class RecordRows:
    """The rows that one record of a step shows: a value for each label, or one before and one after the step."""

    title: str
    head: tuple[str, str] = ("", "value")
    note: str = ""
    rows: dict[str, tuple[Cell | None, Cell]] = field(default_factory=dict)


@dataclass(frozen=True)
class StepRow:
    """One finished step of the recipe."""

    name: str
    options: str = ""
    seconds: float | None = None
    facts: dict[str, str] = field(default_factory=dict)
    records: list[RecordRows] = field(default_factory=list)
    budgets: dict[str, tuple[int, int]] = field(default_factory=dict)
    """The allowed and the reached amount of each figure for which the step had a budget."""
    evidence: list[str] = field(default_factory=list)
    """Files of the run that the row rests on."""


@dataclass(frozen=True)
class GateResult:
    """One condition of shipping, judged."""

    name: str
    status: Status
    text: str
    condition: str
    value: float | None = None
    limit: float | None = None
    interval: tuple[float, float] | None = None
    target: str = ""
    """The target that it was judged for; empty where there is only one."""
    device: str = ""
    """The device that it was judged on; empty where all devices were judged together."""


@dataclass(frozen=True)
class CandidateRow:
    """The candidate of one target on one device, judged: a row of the verdict."""

    target: str
    device: str
    verdict: Verdict
    order: int = 0
    """Its number among the targets that may ship on this device, 1 the preferred one; 0 if it may not ship."""
    ordered_by: str = ""
    """The preference that gave it its number; empty where the figure for that is missing."""
    why: list[str] = field(default_factory=list)
    """The gates that do not hold, in words."""
    remarks: list[str] = field(default_factory=list)
    """Remarks on this target in comparison with the others on this device."""
    file: str = ""
    clean: Estimate | None = None
    """Clean accuracy, candidate minus baseline."""
    suite: str = ""
    suite_delta: Estimate | None = None
    """The largest loss of all suites' means, and the suite it is of."""
    agreement: Estimate | None = None
    """Share of clean images that candidate and baseline answered alike."""
    suite_agreement: Estimate | None = None
    """The same of the suite; without labels the suite is the one with the least agreement."""
    batch: int | None = None
    latency: Estimate | None = None
    """The largest ratio of median latencies of all batch sizes, and the batch size it is of."""
    size_bytes: int | None = None

    @property
    def ships(self) -> bool:
        """True if this target may ship on this device."""
        return self.verdict is Verdict.SHIP


@dataclass(frozen=True)
class BoardRow:
    """One role's file on a board that answered about images itself."""

    device: str
    role: str
    runtime: str
    version: str
    parity: dict[str, Any] = field(default_factory=dict)
    """The differences of its outputs from PyTorch's; empty where the file carries nothing to compare with."""
    target: str = ""


_Row = TypeVar("_Row", BoardRow, ModelRow, AccuracyRow, LatencyRow, ExportRow, GateResult, CandidateRow)


@dataclass(frozen=True)
class Result:
    """Everything one run found out, and the verdict."""

    name: str
    id: str
    verdict: Verdict = Verdict.INCOMPLETE
    purpose: str = ""
    recipe: str = ""
    created: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    unverified: dict[str, str] = field(default_factory=dict)
    """Evidence files that are changed, missing or unreadable, and what is wrong with each."""
    candidates: list[CandidateRow] = field(default_factory=list)
    """Each target on each device, judged."""
    labelled: bool = True
    """False where nobody knows the right answers to the images, so that there is no accuracy."""
    prefer: str = ""
    """The figure by which the targets that may ship on a device are ordered."""
    gates: list[GateResult] = field(default_factory=list)
    models: list[ModelRow] = field(default_factory=list)
    accuracy: list[AccuracyRow] = field(default_factory=list)
    latency: list[LatencyRow] = field(default_factory=list)
    exports: list[ExportRow] = field(default_factory=list)
    steps: list[StepRow] = field(default_factory=list)
    answerers: list[BoardRow] = field(default_factory=list)
    """The boards whose own answers are judged."""
    examples: list[Example] = field(default_factory=list)
    apart: list[str] = field(default_factory=list)
    """Results in the run folder that are not judged: made under other options, or from other files."""
    title: str = ""
    """The judged files, in a few words, where the name does not say it."""
    schema: int = SCHEMA

    @property
    def heading(self) -> str:
        """The words above the report."""
        return self.title or self.name

    @property
    def targets(self) -> list[str]:
        """The names of the targets, in the recipe's order; one empty name where no row bears any."""
        rows = (self.models, self.accuracy, self.latency)
        return list(dict.fromkeys(name for each in rows for name in _targets(each) if name)) or [""]

    @property
    def devices(self) -> list[str]:
        """The names of the devices, in order; one empty name where nothing was asked to be measured."""
        return list(dict.fromkeys(row.device for row in self.latency)) or [""]

    @property
    def many(self) -> bool:
        """True if there are several targets, so that figures need a label with the target."""
        return len(self.targets) > 1

    def label(self, target: str) -> str:
        """The name of a target where figures need it, else nothing."""
        return target if self.many else ""

    def only(self, target: str, device: str | None = None) -> Result:
        """The part that speaks of one target, on one device or on all; rows that bear no target speak of each."""

        models = _about(target, self.models)
        shipped = [file for row in models if row.role == CANDIDATE for file in row.evidence]
        return replace(
            self,
            models=models,
            accuracy=_answers_of(device, _about(target, self.accuracy)),
            latency=[row for row in _about(target, self.latency) if device in (None, row.device)],
            exports=_about(target, self.exports),
            answerers=[row for row in _about(target, self.answerers) if device in (None, row.device)],
            steps=[replace(step, evidence=list(dict.fromkeys([*step.evidence, *shipped]))) for step in self.steps],
            gates=[row for row in _about(target, self.gates) if device is None or row.device in ("", device)],
            candidates=[row for row in _about(target, self.candidates) if device in (None, row.device)],
        )

    def model(self, role: str) -> ModelRow | None:
        """The model of a role; of several targets the first one's."""
        return next((row for row in self.models if row.role == role), None)

    def accuracy_of(self, suite: str | None, condition: str) -> AccuracyRow | None:
        """The row of a condition, of several targets the first one's; ``suite`` None takes the first that has it."""
        rows = (row for row in self.accuracy if row.condition == condition)
        return next((row for row in rows if suite in (None, row.suite)), None)

    def accuracies_of(self, suite: str | None, condition: str) -> list[AccuracyRow]:
        """The same row of each device whose answers are told apart."""
        rows = (row for row in self.accuracy if row.condition == condition and suite in (None, row.suite))
        found: dict[str, AccuracyRow] = {}
        for row in rows:
            found.setdefault(row.device, row)
        return list(found.values())

    def answers(self, suite: str, board: str) -> list[AccuracyRow]:
        """The rows of a suite that one board, or this machine, answered."""
        return [row for row in self.accuracy if (row.suite, row.device) == (suite, board)]

    @property
    def boards(self) -> list[str]:
        """The names of the boards that answered, in order; an empty one for the machine that EdgeCR runs on."""
        return list(dict.fromkeys(row.device for row in self.accuracy))

    @property
    def evidence(self) -> list[str]:
        """Every file of the run that some row rests on."""
        rests = [row.evidence for row in self.models] + [row.evidence for row in self.accuracy]
        rests += [row.evidence for row in self.latency] + [row.evidence for row in self.steps]
        return list(dict.fromkeys(file for files in rests for file in files))

    def unsound(self, *evidence: Sequence[str]) -> list[str]:
        """The files among some rows' evidence that are not what the run wrote."""
        return [file for file in dict.fromkeys(file for files in evidence for file in files) if file in self.unverified]

    @property
    def tampered(self) -> dict[str, str]:
        """The unverified files but for records of failures, which are what the run wrote."""
        return {file: problem for file, problem in self.unverified.items() if not problem.startswith(FAILED)}

    @property
    def suites(self) -> list[str]:
        """The names of the suites, in order."""
        return list(dict.fromkeys(row.suite for row in self.accuracy))

    @property
    def exit_code(self) -> int:
        """0 when the model may ship, else 1."""
        return 0 if self.verdict is Verdict.SHIP else 1

    def plain(self) -> dict[str, Any]:
        """The result as plain JSON values."""
        values: dict[str, Any] = _adapter().dump_python(self, mode="json")
        return values

    @classmethod
    def parse(cls, values: Any, where: str = "the result") -> Result:
        """Reads plain JSON values; another version or a damaged one is a FileProblem."""
        found = values.get("schema") if isinstance(values, dict) else None
        if found != SCHEMA:
            raise FileProblem(f"{where} was written by another version of EdgeCR (schema {found}, here {SCHEMA}).")
        with refused_as(f"{where} is not a result of EdgeCR"):
            return _adapter().validate_python(values)

    def save(self, path: Path) -> None:
        """Writes the result as JSON."""
        write_json(path, self.plain())

    @classmethod
    def load(cls, path: Path) -> Result:
        """Reads a result from JSON."""
        return cls.parse(read_json(path), str(path))


def _targets(rows: Sequence[ModelRow] | Sequence[AccuracyRow] | Sequence[LatencyRow]) -> list[str]:
    return [row.target for row in rows]


def _about(target: str, rows: Sequence[_Row]) -> list[_Row]:
    return [row for row in rows if row.target in ("", target)]


def _answers_of(device: str | None, rows: list[AccuracyRow]) -> list[AccuracyRow]:
    """The rows that count on a device: its own answers, or those of this machine where it was not asked itself."""
    if device is None:
        return rows
    answerer = device if any(row.device == device for row in rows) else ""
    return [row for row in rows if row.device == answerer]


def _adapter() -> TypeAdapter[Result]:
    return TypeAdapter(Result)
