"""A judgement of files from elsewhere: its folder, what was asked, and its verdicts, derived anew from the evidence.

judged/<name>-<short identity>/
  question.json         the files and their hashes, the images, suites, devices and gates
  environment.json      versions, processor, threads, the command
  files/<label>/        the files that were judged, as they were
  measure/              raw samples of the baseline and one candidate on one device, by <device>@<label>
  robustness/<suite>/   the answers of all files; failed.json: the candidates that could not answer, and why
  stages/<name>.json    one record for each stage: its key and the hashes of its outputs
  report.json .md .html the result; with several candidates an overview, and reports/<label>/ for each

The folder is verified and judged as a run's is (``edgecr.stages.judge``): what was changed is INCOMPLETE.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from edgecr.core.errors import FileProblem, RequestError
from edgecr.core.files import read_json, refused_as
from edgecr.core.names import Name, inside
from edgecr.core.options import Options
from edgecr.data.scale import Channels
from edgecr.report.build import accuracy_rows, build_result
from edgecr.report.gates.judge import NO_GATES, Gate, check_gate_name
from edgecr.report.latency_rows import latency_rows
from edgecr.report.overview import write_overview
from edgecr.report.result import BASELINE, CANDIDATE, NOT_VERIFIED, AccuracyRow, LatencyRow, ModelRow, Result
from edgecr.report.write import write_report
from edgecr.robustness.conditions import averages
from edgecr.robustness.examples import Example, load_examples
from edgecr.robustness.result import QUESTION_FILE, RobustnessResult
from edgecr.robustness.suites import suites
from edgecr.run import Run
from edgecr.runners.base import Measurement
from edgecr.runners.device import Device
from edgecr.stages.asked import answers_key, measurement_key
from edgecr.stages.verification import Verification, record_name, verify

QUESTION, ENVIRONMENT = "question", "environment.json"
COMMAND = "edgecr judge"
HOW_TO_GATE = f"{NO_GATES}: say what must hold, for example --gate {{}} --gate latency_p50.ratio=0.8."
PACKAGES = ("edgecr", "numpy", "onnxruntime", "albumentations", "opencv-python-headless")
"""The packages that answers may depend on."""
Count = Annotated[int, Field(ge=1)]


class FileRecord(Options):
    """One judged file: where it came from, and where its copy lies."""

    label: Name
    source: str
    """The path that the command line gave."""
    file: str
    """The copy below ``files/<label>/``; weights of its own lie beside it."""
    sha256: str
    """The hash of the file, or one over all files that the model consists of."""
    size_bytes: Count
    one_by_one: bool = False
    """Asked about one image at a time, because its answers depend on the images beside it."""


class DataRecord(Options):
    """The test images that were judged with."""

    root: str
    folder: str
    """The folder that was read."""
    images: Count
    available: Count
    """Number of images in the folder."""
    classes: tuple[str, ...]
    """In the order of the outputs."""
    absent: tuple[str, ...] = ()
    """Classes without an image."""
    labelled: bool = True
    """False for images that lie in no class folders: there is no accuracy, only agreement."""
    fingerprint: str


class ImageRecord(Options):
    """The preprocessing that turns images into the files' input."""

    mean: Channels
    std: Channels
    size: tuple[int, int]
    answered: str = ""
    """Source of these values, in words; empty if the files scale their images themselves."""


class Question(Options):
    """Everything that a judgement was asked."""

    schema_version: Literal[1] = 1
    name: Name
    files: Annotated[tuple[FileRecord, ...], Field(min_length=2)]
    """The baseline first."""
    data: DataRecord
    input: ImageRecord
    batch: Count = 1
    """The batch size that latencies were measured with."""
    images: Count | None = None
    """Number of test images asked for; all when left out."""
    suites: Annotated[tuple[str, ...], Field(min_length=1)]
    devices: Annotated[tuple[Device, ...], Field(min_length=1)]
    gates: dict[str, Gate] = Field(default={})
    seed: int = 0

    @property
    def candidates(self) -> tuple[FileRecord, ...]:
        """The files that are compared with the baseline."""
        return self.files[1:]

    def stages(self) -> list[str]:
        """Every stage of the judgement."""
        return [
            QUESTION,
            *(file_stage(file.label) for file in self.files),
            *(pair_stage(device.name, file.label) for device in self.devices for file in self.candidates),
            *(suite_stage(suite) for suite in self.suites),
        ]


def file_stage(label: str) -> str:
    """The stage that keeps a copy of one file."""
    return f"file-{label}"


def pair_stage(device: str, label: str) -> str:
    """The stage of one measurement of a candidate beside the baseline."""
    return f"measure-{device}@{label}"


def suite_stage(suite: str) -> str:
    """The stage of all files' answers to one suite."""
    return f"robustness-{suite}"


@dataclass(frozen=True)
class Case:
    """The folder of one judgement."""

    folder: Path

    @classmethod
    def at(cls, folder: Path) -> Case | None:
        """The judgement in a folder; None for any other folder, such as a run."""
        return cls(folder) if (folder / "question.json").is_file() else None

    @property
    def run(self) -> Run:
        """The folder as one that holds stages and their records."""
        return Run(self.folder)

    def question(self) -> Question:
        """The recorded question; a damaged record, or one of another version, is a FileProblem."""
        path = self.folder / "question.json"
        damaged = f"{path} is damaged, or of another version: run `{COMMAND}` again"
        with refused_as(damaged):
            question = Question.parse(read_json(path))
        try:
            for suite in question.suites:
                suites.get(suite)
            for name, gate in question.gates.items():
                check_gate_name(name, question.suites, gate)
        except RequestError as error:
            raise FileProblem(f"{damaged}: {error}") from error
        return question

    def file(self, record: FileRecord) -> Path:
        """The copy of a judged file."""
        return inside(self.folder, "files", record.label, record.file)

    def measurement(self, device: str, label: str) -> Path:
        """The raw measurement of a candidate beside the baseline."""
        return inside(self.folder, "measure", f"{device}@{label}.json")

    def answers(self, suite: str) -> Path:
        """The folder of all files' answers to one suite."""
        return inside(self.folder, "robustness", suite)

    def examples(self, suite: str, label: str) -> Path:
        """The images of a suite that are worth looking at for a candidate."""
        return inside(self.answers(suite), f"examples-{label}.json")

    def failed(self, suite: str) -> Path:
        """The record of the candidates that could not answer a suite."""
        return inside(self.answers(suite), "failed.json")

    def failures(self, suite: str) -> dict[str, str]:
        """The candidates that could not answer a suite, and why."""
        path = self.failed(suite)
        found = read_json(path) if path.exists() else {}
        if not isinstance(found, dict) or not all(isinstance(why, str) for why in found.values()):
            raise FileProblem(f"{path} is damaged.")
        return found

    def report(self, label: str) -> Path:
        """The folder of one candidate's report: the judgement's own where there is no other candidate."""
        alone = len(self.question().candidates) == 1
        return self.folder if alone else inside(self.folder, "reports", label)

    def results(self) -> list[Result]:
        """One verdict for each candidate, derived anew from the evidence; a written report is never believed."""
        question = self.question()
        seen = verify(self.run, question.stages(), COMMAND)
        return _Judging(self, question, seen).results()


def answers_of(answered: RobustnessResult, label: str) -> RobustnessResult:
    """The answers of the baseline and one candidate alone, under the names of their roles.

    A candidate that could not answer is not among them.
    """
    roles = {role: name for role, name in ((BASELINE, BASELINE), (CANDIDATE, label)) if name in answered.models}
    answers = {
        condition: {role: files[name] for role, name in roles.items()} for condition, files in answered.answers.items()
    }
    models = {role: answered.models[name] for role, name in roles.items()}
    return replace(answered, answers=answers, models=models)


@dataclass(frozen=True)
class _Judging:
    """A judgement, what it was asked, and what of its evidence is sound."""

    case: Case
    question: Question
    seen: Verification

    def results(self) -> list[Result]:
        """Everything verified, read and judged; reading comes before the rows that rest on it."""
        self.seen.demand(QUESTION, "question.json", ENVIRONMENT)
        for file in self.question.files:
            self.seen.demand(file_stage(file.label), self.place(self.case.file(file)))
        environment = self.environment()
        answers = {suite: self.answers(suite) for suite in self.question.suites}
        measured = {
            (device.name, file.label): self.measured(device, file)
            for device in self.question.devices
            for file in self.question.candidates
        }
        return [self.result(file, answers, measured, environment) for file in self.question.candidates]

    def result(
        self,
        file: FileRecord,
        answers: Mapping[str, RobustnessResult | None],
        measured: Mapping[tuple[str, str], Measurement | None],
        environment: dict[str, str],
    ) -> Result:
        """The verdict on one candidate."""
        found = {device.name: measured[device.name, file.label] for device in self.question.devices}
        told = [f"{name}: {text}" for name, each in found.items() if each for text in each.warnings]
        base = self.question.files[0]
        created = environment.get("created", "")
        return build_result(
            name=file.label,
            id=self.case.folder.name,
            title=self.title(file),
            purpose=self.purpose(file),
            created=created,
            environment={name: value for name, value in environment.items() if name != "created"},
            gates=self.question.gates,
            models=[self.model(BASELINE, base, file), self.model(CANDIDATE, file, file)],
            latency=[row for device in self.question.devices for row in self.latency(device, file, found[device.name])],
            accuracy=[row for suite, each in answers.items() for row in self.accuracy(suite, file, each)],
            examples=[one for suite, each in answers.items() if each for one in self.examples(suite, file)],
            warnings=[*self.notes(file), *told],
            unverified=self.problems(file),
            labelled=self.question.data.labelled,
        )

    # Reading what is sound

    def place(self, path: Path) -> str:
        """A path below the folder, as records name it."""
        return path.relative_to(self.case.folder).as_posix()

    def measured(self, device: Device, file: FileRecord) -> Measurement | None:
        """The measurement of a candidate on a device, if it is of that device and those files."""
        stage, path = pair_stage(device.name, file.label), self.case.measurement(device.name, file.label)
        place, hashes = self.place(path), {BASELINE: self.question.files[0].sha256, CANDIDATE: file.sha256}
        self.seen.demand(stage, place)
        if not self.seen.sound(stage):
            return None
        try:
            measurement = Measurement.load(path)
        except FileProblem as problem:
            self.seen.reject(place, f"cannot be read: {problem}")
            return None
        if measurement.device.plain() != device.plain():
            self.seen.reject(place, f"was made on another device, or under another protocol, than {device.name}")
        elif any(arm.sha256 != hashes.get(arm.label) for arm in measurement.arms):
            self.seen.reject(place, "was made from other files")
        elif self.seen.records[stage].key != measurement_key(device, [self.question.batch], None, None, hashes):
            self.seen.reject(record_name(stage), "was made under other options")
        return measurement if self.seen.sound(stage) else None

    def answers(self, suite: str) -> RobustnessResult | None:
        """The answers to a suite, if they are those files' and answer this question."""
        stage, folder = suite_stage(suite), self.case.answers(suite)
        place = self.place(folder)
        files = [f"{place}/{QUESTION_FILE}"]
        if self.case.failed(suite).exists():
            files.append(self.place(self.case.failed(suite)))
        self.seen.demand(stage, *files)
        if not self.seen.sound(stage):
            return None
        try:
            answered, failed = RobustnessResult.load(folder), self.case.failures(suite)
        except FileProblem as problem:
            self.seen.reject(files[0], f"cannot be read: {problem}")
            return None
        asked = [file for file in self.question.files if file.label not in failed]
        self.seen.demand(stage, *(f"{place}/{condition}.npz" for condition in answered.answers))
        self.seen.demand(stage, *(self.place(self.case.examples(suite, file.label)) for file in asked[1:]))
        if answered.models != {file.label: file.sha256 for file in asked}:
            self.seen.reject(files[0], "was made from other files")
        elif (answered.suite, answered.seed, len(answered.labels)) != (
            suite,
            self.question.seed,
            self.question.data.images,
        ):
            self.seen.reject(files[0], "is about another suite, seed or number of images")
        elif answered.labelled != self.question.data.labelled:
            self.seen.reject(files[0], "and the question do not agree on whether images have labels")
        elif self.seen.records[stage].key != answers_key(answered.key, self.question.images):
            self.seen.reject(record_name(stage), "was made under other options")
        return answered if self.seen.sound(stage) else None

    def environment(self) -> dict[str, str]:
        """The environment in which the judgement was made; empty if its record is not sound."""
        if not self.seen.sound(QUESTION):
            return {}
        try:
            return _facts(read_json(self.case.folder / ENVIRONMENT))
        except (FileProblem, KeyError, TypeError, AttributeError):
            self.seen.reject(ENVIRONMENT, "does not describe where the judgement was made")
            return {}

    # Rows, each with the files that it rests on

    def files(self, file: FileRecord, *stages: str) -> list[str]:
        """The evidence files of a candidate's figures."""
        return self.seen.files([*stages, QUESTION, file_stage(BASELINE), file_stage(file.label)])

    def problems(self, file: FileRecord) -> dict[str, str]:
        """The problems of the evidence, without those that concern only other candidates."""
        own = set(self.files(file, *self.stages_of(file)))
        others = {
            name
            for other in self.question.candidates
            if other is not file
            for name in self.files(other, *self.stages_of(other))
        }
        return {name: text for name, text in self.seen.problems.items() if name in own or name not in others}

    def stages_of(self, file: FileRecord) -> list[str]:
        """The stages that a candidate's figures come from."""
        pairs = (pair_stage(device.name, file.label) for device in self.question.devices)
        return [*pairs, *(suite_stage(suite) for suite in self.question.suites)]

    def model(self, role: str, of: FileRecord, file: FileRecord) -> ModelRow:
        """The baseline or the candidate as a file; nobody counts the work of files from elsewhere."""
        evidence = self.files(file)
        whole = self.seen.sound(file_stage(of.label), QUESTION)
        name = f"{Path(of.source).name} (SHA-256 {of.sha256[:12]})"
        return ModelRow(role, name, size_bytes=of.size_bytes if whole else None, evidence=evidence, uncounted=True)

    def latency(self, device: Device, file: FileRecord, measurement: Measurement | None) -> Iterator[LatencyRow]:
        """The rows of one device; where nothing sound was measured there is one that says why."""
        stage = pair_stage(device.name, file.label)
        evidence = self.files(file, stage)
        rows = latency_rows(measurement, self.question.gates) if measurement else []
        for row in rows:
            yield replace(row, evidence=evidence)
        if not rows:
            why = (measurement.error or "not measured") if measurement else f"{NOT_VERIFIED}: {self.wrong(evidence)}"
            yield LatencyRow(device.name, self.question.batch, error=why, evidence=evidence)

    def accuracy(self, suite: str, file: FileRecord, answered: RobustnessResult | None) -> list[AccuracyRow]:
        """The rows of one suite; without sound answers they are empty, but name what they would rest on."""
        if answered:
            rows = accuracy_rows(answers_of(answered, file.label), self.question.gates)
            why = self.case.failures(suite).get(file.label, "")
            rows = [replace(row, error=why) for row in rows]
        else:
            rows = [AccuracyRow(suite, row) for row in averages(suites.get(suite).conditions)]
        return [replace(row, evidence=self.files(file, suite_stage(suite))) for row in rows]

    def examples(self, suite: str, file: FileRecord) -> list[Example]:
        """Images worth looking at."""
        return load_examples(self.case.examples(suite, file.label))

    def wrong(self, evidence: list[str]) -> str:
        """The first file of some evidence that is not what was written."""
        return next(name for name in evidence if name in self.seen.problems)

    # Words

    def title(self, file: FileRecord) -> str:
        """The compared files, by their names or, where these are alike, by their paths."""
        both = [Path(each.source).name for each in (file, self.question.files[0])]
        return " against ".join(both if both[0] != both[1] else (file.source, self.question.files[0].source))

    def purpose(self, file: FileRecord) -> str:
        """The compared files and the test images, in a sentence."""
        base, data, input_ = self.question.files[0], self.question.data, self.question.input
        used = f"{data.images:,}" if data.images == data.available else f"{data.images:,} of {data.available:,}"
        scaled = (
            f"scaled with mean {_numbers(input_.mean)} and std {_numbers(input_.std)} ({input_.answered})"
            if input_.answered
            else "fed as they are"
        )
        kind = "test images" if data.labelled else "images without labels"
        return (
            f"{file.source} against {base.source}, on {used} {kind} of {data.folder} in "
            f"{len(data.classes)} classes, {input_.size[0]}x{input_.size[1]} pixels, {scaled}."
        )

    def notes(self, file: FileRecord) -> Iterator[str]:
        """Notes that the reader needs beside the figures."""
        if not self.question.gates:
            yield HOW_TO_GATE.format(
                "clean_accuracy.drop=0.01" if self.question.data.labelled else "agreement.min=0.97"
            )
        if absent := self.question.data.absent:
            yield (
                f"{len(absent)} of {len(self.question.data.classes)} classes have no test image "
                f"({', '.join(absent[:3])}{'…' if len(absent) > 3 else ''}): accuracy speaks of the others only."
            )
        for each in (self.question.files[0], file):
            if each.one_by_one:
                yield (
                    f"{Path(each.source).name} scales its activations anew for each batch, so an answer depends on the "
                    "images beside it. It was asked about one image at a time, as at batch 1 on the device."
                )


def _numbers(values: Channels) -> str:
    return ", ".join(f"{value:g}" for value in values)


def maker(record: Mapping[str, Any]) -> dict[str, Any]:
    """The part of an environment that answers may depend on; if it changes, everything is done again."""
    machine = {name: record[name] for name in ("cpu", "machine", "threads", "python")}
    return machine | {name: record["packages"][name] for name in PACKAGES}


def _facts(record: dict[str, Any]) -> dict[str, str]:
    """The facts worth a line in a report."""
    told = {"created": record["created"], **maker(record), "command": " ".join(record["command"])}
    return {name: str(value) for name, value in told.items() if value is not None}


def write_reports(case: Case) -> list[Result]:
    """Judges what lies in the folder, writes a report for each candidate, and an overview of several."""
    results = case.results()
    for result in results:
        write_report(result, case.report(result.name))
    if len(results) > 1:
        write_overview(results, case.folder, {each.name: f"reports/{each.name}/report.html" for each in results})
    return results
