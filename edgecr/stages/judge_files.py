"""Judges exported files of any tool: the evidence, gates, report and exit code of a run, without a recipe.

Nothing here needs torch. What is finished is not done again: the folder's name holds the identity of the question and
of the software that answers it.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError
from typing_extensions import override

from edgecr.core.environment import environment
from edgecr.core.errors import FileProblem, RequestError, UnsupportedModel
from edgecr.core.files import replacing_folder, storage_errors, write_json
from edgecr.core.names import as_name
from edgecr.core.progress import Monitor
from edgecr.core.yaml_text import parse_yaml
from edgecr.data.base import ImageSet, Preprocessing
from edgecr.data.folder import HeldOutFolder, Listing, held_out
from edgecr.data.overlap import distinct
from edgecr.data.sets import dataset_fingerprint
from edgecr.predictors import Predictor, predictor_for
from edgecr.report.gates.judge import Gate, check_confidence, check_gate_name
from edgecr.report.gates.quantities import Kind, check_labels, quantities
from edgecr.report.result import BASELINE, CANDIDATE, Result
from edgecr.robustness.evaluate import evaluate
from edgecr.robustness.examples import pick_examples, save_examples
from edgecr.robustness.result import QUESTION_FILE, RobustnessResult
from edgecr.robustness.suites import suites
from edgecr.run import RunMonitor, identity
from edgecr.runners.agent.payload import payload_of
from edgecr.runners.base import Measurement, MeasurePlan, load_device, runner_for
from edgecr.runners.device import Device
from edgecr.runners.measurement.completeness import shortfall
from edgecr.stages.asked import answers_key, measurement_key
from edgecr.stages.judge_case import (
    ENVIRONMENT,
    QUESTION,
    Case,
    DataRecord,
    FileRecord,
    ImageRecord,
    Question,
    answers_of,
    file_stage,
    maker,
    pair_stage,
    suite_stage,
    write_reports,
)
from edgecr.stages.judge_inputs import (
    Given,
    GivenFile,
    JudgeInputs,
    judged_outputs,
    labels_for,
    names_without_labels,
    read_inputs,
)
from edgecr.tasks.base import Outputs

PROBE = 2
"""Images that every file is asked about before anything is measured."""
UNCOUNTED = ("params", "macs", "budget")
"""Gates about figures that only a run counts."""


@dataclass(frozen=True)
class FilesToJudge:
    """The request of an ``edgecr judge`` command."""

    baseline: Path
    candidates: tuple[Path, ...]
    data: Path
    devices: tuple[str, ...] = ("cpu",)
    suites: tuple[str, ...] = ("noise5",)
    gates: Mapping[str, Gate] = field(default_factory=dict)
    images: int | None = None
    given: Given = field(default_factory=Given)
    threads: int = 0


def judge_files(asked: FilesToJudge, root: Path, monitor: Monitor) -> tuple[Case, list[Result]]:
    """Judges each candidate against the baseline; returns the folder and one result for each candidate."""
    devices = _refuse_early(asked)
    inputs = read_inputs(asked.baseline, asked.candidates, asked.given)
    _refuse_other_batches(asked.gates, inputs)
    threads = asked.threads or _processors()
    data = _test_images(asked, inputs, monitor, threads)
    _probe(inputs, data, threads)
    question, where = _question(asked, inputs, data, devices), environment(threads)
    key = identity(question.plain(), maker(where))
    case = Case(root / f"{question.name}-{key[:8]}")
    with case.run.writing("name another folder with --output: it is judging the same files and images"):
        work = _Work(case, question, inputs, data, threads, RunMonitor(case.run, monitor))
        work.finish(key, where)
    return case, write_reports(case)


def _processors() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# What is refused before anything is read


def parse_gates(given: str | Iterable[str] | Mapping[str, Any]) -> dict[str, Gate]:
    """Gates from texts such as ``clean_accuracy.drop=0.01``, or from a recipe's mapping of them.

    A RequestError says what is wrong.
    """
    if isinstance(given, Mapping):
        return {str(name): _gate(str(name), keys) for name, keys in given.items()}
    values: dict[str, dict[str, Any]] = {}
    texts = [given] if isinstance(given, str) else given
    for text in map(str, texts):
        left, sign, value = text.partition("=")
        name, dot, key = left.strip().rpartition(".")
        if not (sign and dot and name and key):
            raise RequestError(f"--gate {text}: write NAME.KEY=VALUE, for example clean_accuracy.drop=0.01.")
        if key in values.setdefault(name, {}):
            raise RequestError(f"--gate {text}: {name}.{key} was given before. Give it once.")
        values[name][key] = parse_yaml(value, f"--gate {text}").values
    return {name: _gate(name, keys) for name, keys in values.items()}


def _gate(name: str, keys: Any) -> Gate:
    try:
        return Gate.parse(keys)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join([name, *map(str, first["loc"])])
        unknown = first["type"] == "extra_forbidden"
        why = f"there is no such key; known: {', '.join(Gate.model_fields)}" if unknown else first["msg"]
        raise RequestError(f"--gate {place}: {why}.") from error


def _refuse_early(asked: FilesToJudge) -> tuple[Device, ...]:
    """The devices; whatever is wrong with names, numbers and gates is told before any file is read."""
    _refuse_other_counts("--images", asked.images, 1)
    _refuse_other_counts("--threads", asked.threads, 0)
    if not asked.suites:
        raise RequestError("Name at least one suite; clean alone leaves the corruptions out.")
    for name in asked.suites:
        suites.get(name)
    devices = tuple(load_device(name) for name in dict.fromkeys(asked.devices))
    names = [device.name for device in devices]
    if not names or len(set(names)) < len(names):
        raise RequestError("Name at least one device, and each only once.")
    for device in devices:
        runner_for(device)
    for name, gate in asked.gates.items():
        check_gate_name(name, asked.suites, gate)
        check_confidence(name, gate)
        if name in UNCOUNTED:
            raise RequestError(f"--gate {name}: nobody counts it in files from elsewhere; use size or latency_p50.")
        if gate.device and gate.device not in names:
            raise RequestError(f"--gate {name}.device={gate.device}: measured are {', '.join(names)}. Add --device.")
    return devices


def _refuse_other_counts(option: str, given: Any, least: int) -> None:
    if given is not None and (not isinstance(given, int) or isinstance(given, bool) or given < least):
        raise RequestError(f"{option} {given}: give a whole number, {least} or more, or leave it out.")


def _refuse_other_batches(gates: Mapping[str, Gate], inputs: JudgeInputs) -> None:
    for name, gate in gates.items():
        if quantities()[name].kind is Kind.TIMING and gate.batch not in (None, inputs.batch):
            raise RequestError(f"--gate {name}.batch={gate.batch}: these files are measured at batch {inputs.batch}.")


# The images


@dataclass(frozen=True)
class _TestImages:
    """The test images that are judged with, labelled in the order of the files' outputs."""

    source: HeldOutFolder
    names: tuple[str, ...]
    images: ImageSet
    fingerprint: str


def _test_images(asked: FilesToJudge, inputs: JudgeInputs, monitor: Monitor, threads: int) -> _TestImages:
    """Reads the held-out images of the folder, all of them or as many as were asked for, drawn by the seed."""
    source = held_out(asked.data)
    listing = source.listing
    if source.labelled:
        names = labels_for(inputs, source.classes, source.trained, source.folder)
        order = np.array([names.index(name) for name in source.classes], dtype=np.int64)
        listing = Listing(listing.files, order[listing.labels])
    else:
        _refuse_labels(asked.gates, source)
    total = len(listing.files)
    if asked.images is not None and asked.images < total:
        listing = listing.at(np.sort(np.random.default_rng(0).choice(total, asked.images, replace=False)))
    monitor.say(f"Reading {len(listing.files):,} of {total:,} test images in {source.folder}")
    images = distinct(source.load(listing, inputs.preprocessing.size), monitor)
    if not source.labelled:
        names = names_without_labels(inputs, source.trained) or _numbered(inputs, images, threads)
    return _TestImages(source, names, images, dataset_fingerprint(names, [images]))


def _refuse_labels(gates: Iterable[str], source: HeldOutFolder) -> None:
    for name in gates:
        try:
            check_labels(name)
        except RequestError as error:
            raise RequestError(f"--gate {name}: {error}; {source.folder} has no class folders.") from error


def _numbered(inputs: JudgeInputs, images: ImageSet, threads: int) -> tuple[str, ...]:
    """Names for classes that nobody named: the baseline's answer to an image tells how many there are."""
    base = inputs.files[0]
    (answers,) = _predictor(base, base.path, inputs.preprocessing, threads).predict(images.numpy([0])).values()
    return tuple(f"class {number}" for number in range(np.asarray(answers).reshape(1, -1).shape[1]))


# Asking a file


@dataclass(frozen=True)
class _Exported:
    """A file as predictors want it described."""

    path: Path
    preprocessing: dict[str, Any]
    format: str = "onnx"


class _CannotAnswer(UnsupportedModel):
    """A file that fails on some images: which one, and why in the words of its user's path."""

    def __init__(self, label: str, why: str) -> None:
        self.label = label
        super().__init__(why)


class _Answers(Predictor):
    """Asks a file from elsewhere: image by image where it must be, and for the logits behind probabilities."""

    def __init__(self, predictor: Predictor, file: GivenFile, path: Path) -> None:
        self._predictor, self._file, self._path = predictor, file, path

    @override
    def predict(self, images: np.ndarray) -> Outputs:
        step = 1 if self._file.one_by_one else max(1, len(images))
        try:
            parts = [self._predictor.predict(images[start : start + step]) for start in range(0, len(images), step)]
        except UnsupportedModel as error:
            why = str(error).replace(str(self._path), str(self._file.path))
            raise _CannotAnswer(self._file.label, why) from error
        (name,) = judged_outputs(parts[0])  # files with several of them were refused before
        answers = np.concatenate([part[name] for part in parts])
        if self._file.probabilities:
            answers = np.log(np.maximum(answers, np.finfo(np.float32).tiny))
        return {name: answers}


def _predictor(file: GivenFile, path: Path, preprocessing: Preprocessing, threads: int) -> Predictor:
    """The one place where a file becomes a predictor."""
    values = {name: list(getattr(preprocessing, name)) for name in ("mean", "std", "size")}
    return _Answers(predictor_for(_Exported(path, values | {"embedded": file.embedded}), threads), file, path)


def _probe(inputs: JudgeInputs, data: _TestImages, threads: int) -> None:
    """Raises for a file that cannot run on these images, or that answers other classes than there are.

    One of several candidates that fails does not stop the others: it is told where all images are shown.
    """
    images = data.images.numpy(np.arange(min(PROBE, len(data.images))))
    for file in inputs.files:
        try:
            (answers,) = _predictor(file, file.path, inputs.preprocessing, threads).predict(images).values()
        except _CannotAnswer as error:
            if len(inputs.files) > 2 and error.label != BASELINE:
                continue
            raise FileProblem(str(error)) from error
        if answers.shape != (len(images), len(data.names)):
            raise RequestError(
                f"{file.path} answers {len(images)} images with values of shape {answers.shape}; "
                f"{data.source.folder} has {len(data.names)} classes. Give the data that the file is for."
            )


def _question(asked: FilesToJudge, inputs: JudgeInputs, data: _TestImages, devices: tuple[Device, ...]) -> Question:
    """Everything that the verdict depends on."""
    several = len(inputs.files) > 2
    present = {data.names[label] for label in np.unique(data.images.labels)} if data.source.labelled else data.names
    return Question(
        name=f"{as_name(asked.baseline.stem)}-candidates" if several else inputs.files[1].label,
        files=tuple(_record(file) for file in inputs.files),
        data=DataRecord(
            root=str(asked.data),
            folder=str(data.source.folder),
            images=len(data.images),
            available=len(data.source.listing.files),
            classes=data.names,
            absent=tuple(name for name in data.names if name not in present),
            fingerprint=data.fingerprint,
            labelled=data.source.labelled,
        ),
        input=ImageRecord(
            mean=inputs.preprocessing.mean,
            std=inputs.preprocessing.std,
            size=inputs.preprocessing.size,
            answered=inputs.answered,
        ),
        batch=inputs.batch,
        images=asked.images,
        suites=tuple(dict.fromkeys(asked.suites)),
        devices=devices,
        gates=dict(asked.gates),
    )


def _record(file: GivenFile) -> FileRecord:
    return FileRecord(
        label=file.label,
        source=str(file.path),
        file=file.payload.name.partition("/")[2],
        sha256=file.payload.sha256,
        size_bytes=file.payload.size_bytes,
        one_by_one=file.one_by_one,
    )


# The stages


@dataclass(frozen=True)
class _Work:
    """One judgement on its way through the stages."""

    case: Case
    question: Question
    inputs: JudgeInputs
    data: _TestImages
    threads: int
    monitor: Monitor

    def finish(self, key: str, where: dict[str, Any]) -> None:
        """Does what is left to do."""
        self.begin(key, where)
        for record, file in zip(self.question.files, self.inputs.files):
            self.keep(record, file)
        for device in self.question.devices:
            for record in self.question.candidates:
                self.measure(device, record)
        for suite in self.question.suites:
            self.ask(suite)

    def begin(self, key: str, where: dict[str, Any]) -> None:
        """Writes what is asked, and vouches for it."""
        if not self.case.run.finished(QUESTION, key):
            files = [self.case.folder / "question.json", self.case.folder / ENVIRONMENT]
            write_json(files[0], self.question.plain())
            write_json(files[1], where | {"created": time.strftime("%Y-%m-%dT%H:%M:%S%z")})
            self.case.run.finish(QUESTION, key, files)

    def keep(self, record: FileRecord, file: GivenFile) -> None:
        """Copies a file with its weights: what is judged is what lies in the folder."""
        path, stage = self.case.file(record), file_stage(record.label)
        if self.case.run.finished(stage, record.sha256):
            return
        with replacing_folder(self.case.folder / "files" / record.label) as temporary:
            for name, source in file.payload.files().items():
                copy = temporary / name.partition("/")[2]
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, copy)
        if payload_of(path, ()).sha256 != record.sha256:
            raise FileProblem(f"{file.path} changed while it was read. Run the same command again.")
        self.case.run.finish(stage, record.sha256, [path.parent])

    def measure(self, device: Device, record: FileRecord) -> None:
        """Measures the baseline and one candidate interleaved, unless that is done."""
        base, stage = self.question.files[0], pair_stage(device.name, record.label)
        path = self.case.measurement(device.name, record.label)
        hashes = {BASELINE: base.sha256, CANDIDATE: record.sha256}
        key = measurement_key(device, [self.question.batch], None, None, hashes)
        if self.case.run.finished(stage, key) and not shortfall(Measurement.load(path)):
            return
        self.monitor.say(f"Measuring {record.label} beside the baseline on {device.name}")
        files = {BASELINE: self.case.file(base), CANDIDATE: self.case.file(record)}
        measurement = runner_for(device).measure(MeasurePlan.of(files, [self.question.batch]), self.monitor)
        measurement.save(path)
        self.case.run.finish(stage, key, [path])
        if measurement.error:
            self.monitor.warn(f"{device.name}: {measurement.error}")

    def ask(self, name: str) -> None:
        """Shows all files the same clean and corrupted images."""
        suite, folder, stage = suites.get(name), self.case.answers(name), suite_stage(name)
        self._clear(folder, stage)
        size = self.inputs.preprocessing
        predictors = {
            record.label: _predictor(file, self.case.file(record), size, self.threads)
            for record, file in zip(self.question.files, self.inputs.files)
        }
        answered, failed = self._answered(name, predictors)
        key = answers_key(answered.key, self.question.images)
        if self.case.run.finished(stage, key):
            return
        for record in self.question.candidates:
            if record.label in failed:
                continue
            chosen = pick_examples(answers_of(answered, record.label), suite, self.data.images, self.data.names)
            save_examples(self.case.examples(name, record.label), chosen)
        self.case.run.finish(stage, key, [folder])

    def _answered(self, name: str, predictors: Mapping[str, Predictor]) -> tuple[RobustnessResult, dict[str, str]]:
        """The answers of all files that have some, and why the others have none; without the baseline's it raises."""
        failed = self._failures(name)
        while True:
            hashes = {record.label: record.sha256 for record in self.question.files if record.label not in failed}
            try:
                answered = evaluate(
                    {label: predictors[label] for label in hashes},
                    suites.get(name),
                    self.data.images,
                    self.case.answers(name),
                    identities=hashes,
                    seed=self.question.seed,
                    monitor=self.monitor,
                    labelled=self.question.data.labelled,
                )
                return answered, failed
            except _CannotAnswer as error:
                if error.label == BASELINE:
                    raise
                failed[error.label] = str(error)
                write_json(self.case.failed(name), failed)
                self.monitor.warn(f"{error} It is not asked any more; the others are.")

    def _failures(self, suite: str) -> dict[str, str]:
        """The failures that an earlier attempt at the same question has met."""
        try:
            return self.case.failures(suite)
        except FileProblem:
            return {}

    def _clear(self, folder: Path, stage: str) -> None:
        """Removes answers that no record vouches for, and those that were changed: they are made again."""
        run = self.case.run
        if (folder / QUESTION_FILE).exists() and not run.stage(stage).exists():
            self.monitor.warn(f"{folder} has answers that no record vouches for; they are made again.")
            with storage_errors(folder):
                shutil.rmtree(folder)
        for file in run.damaged(stage):
            self.monitor.warn(f"{file} was changed after it was written, and is made again.")
            with storage_errors(file):
                file.unlink(missing_ok=True)
