"""Judges a run by what lies in its folder: verified first, then read, then held against the gates.

Nothing here builds a model, runs code of the run, or imports torch. Files that fail their hash are not read; every
row carries the files that it rests on, so that a gate on any of them is incomplete and names it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from edgecr.core.errors import FileProblem
from edgecr.core.files import joint_hash, read_json
from edgecr.exporters.artifact import MANIFEST, STEM, Artifact
from edgecr.exporters.base import Target
from edgecr.exporters.stored_proof import PROOF
from edgecr.recipe import StepBase, as_yaml
from edgecr.report.build import accuracy_rows, build_result, export_row
from edgecr.report.candidates import focus, name_of
from edgecr.report.latency_rows import latency_rows
from edgecr.report.result import (
    CANDIDATE,
    NOT_VERIFIED,
    AccuracyRow,
    BoardRow,
    ExportRow,
    LatencyRow,
    ModelRow,
    Result,
    StepRow,
    WeightRow,
)
from edgecr.report.step_rows import files_of, step_row, unreadable
from edgecr.report.write import write_report
from edgecr.robustness.conditions import averages
from edgecr.robustness.examples import Example, load_examples
from edgecr.robustness.result import RobustnessResult
from edgecr.robustness.suites import suites
from edgecr.run import QUESTION, RESUMED, ROLES, Run
from edgecr.runners.base import Measurement
from edgecr.runners.device import Device
from edgecr.stages.asked import (
    SUBJECT_FILES,
    Asked,
    answers_key,
    board_name,
    export_failed,
    export_key,
    export_stage,
    measure_stage,
    measurement_key,
    robustness_stage,
    step_stage,
    target_for,
)
from edgecr.stages.board_record import BOARD_FILE, board_rows
from edgecr.stages.subject_counts import COUNTS, SubjectCounts
from edgecr.stages.verification import Verification, read_record, record_name, verify

OTHER_FILES = "was made from other model files"


def report(run: Run) -> Result:
    """Judges a run and writes the report's three files."""
    result = judged(run)
    write_report(result, run.folder)
    return result


def judged(run: Run) -> Result:
    """The verdict on a run, derived anew from its evidence; a written report is never believed."""
    asked = Asked.of(run)
    failures = dict(_failures(run, asked))
    broken = {target for target, _ in failures}
    return _Case(run, asked, verify(run, asked.stages(broken)), failures).result()


def _failures(run: Run, asked: Asked) -> Iterator[tuple[tuple[str, str], str]]:
    """The targets and roles that could not be exported, each with the error."""
    for target, role in itertools.product(asked.names, ROLES):
        with contextlib.suppress(FileProblem):
            if error := read_record(run.stage(export_stage(target, role))).error:
                yield (target, role), error


@dataclass(frozen=True)
class _Case:
    """A run, what it was asked, and what of its evidence is sound."""

    run: Run
    asked: Asked
    seen: Verification
    failures: Mapping[tuple[str, str], str]
    """The error of each target and role that could not be exported."""

    def result(self) -> Result:
        """Everything verified, read and judged; reading comes before the rows that rest on it."""
        self.seen.demand(QUESTION, "run.json", "environment.json")
        artifacts = {
            (target.name, role): self.artifact(target, role) for target in self.asked.targets for role in ROLES
        }
        counts = {role: self.counts(role, artifacts) for role in ROLES}
        names, suites_asked = self.asked.names, self.asked.recipe.robustness.suites
        models = [self.model(target, role, counts[role], artifacts[target, role]) for target in names for role in ROLES]
        measured = [(*pair, self.measured(*pair)) for pair in itertools.product(names, self.asked.devices)]
        answers = {
            (target, suite, board_name(device)): self.answers(target, suite, device)
            for target in names
            for device in self.asked.answering(target)
            for suite in suites_asked
        }
        result = build_result(
            name=self.asked.recipe.name,
            id=self.run.folder.name,
            purpose=self.asked.purpose,
            created=self.asked.created,
            recipe=as_yaml(self.asked.recipe),
            environment=self.environment(),
            gates=self.asked.recipe.gates,
            models=models,
            exports=list(_exports(artifacts.values())),
            latency=[row for each in measured for row in self.latency(*each)],
            warnings=list(self.warnings(measured)),
            accuracy=[row for place, answered in answers.items() for row in self.accuracy(*place, answered)],
            steps=list(self.steps()),
            unverified=self.seen.problems,
            apart=self.apart(),
            allow_partial=self.asked.recipe.measure.allow_partial,
            prefer=self.asked.recipe.prefer,
            labelled=self.asked.labelled,
        )
        sound = [place for place, answered in answers.items() if answered]
        seen = [_shown(focus(result), suite, sound) for suite in suites_asked]
        examples = [example for place in seen if place for example in self.examples(*place)]
        return replace(result, examples=examples, answerers=list(self.answerers(sound)))

    def answerers(self, sound: Iterable[tuple[str, str, str]]) -> Iterator[BoardRow]:
        """The boards that answered for each target, by the first suite that they answered to."""
        asked = {(target, board): suite for target, suite, board in reversed([*sound]) if board}
        for (target, board), suite in reversed(asked.items()):
            yield from board_rows(self.run.robustness(suite, target, board), target, board)

    # Reading what is sound, and holding records against one another

    def artifact(self, target: Target, role: str) -> Artifact | None:
        """An exported file, if it and its manifest are what was exported and speak of one another."""
        stage, folder = export_stage(target.name, role), self.run.export(target.name) / role
        manifest = f"{self.place(target.name, role)}/{MANIFEST}"
        self.seen.demand(stage, manifest)
        if not self.seen.sound(stage):
            return None
        try:
            artifact = Artifact.within(folder)
        except FileProblem as problem:
            self.seen.reject(manifest, f"cannot be read: {problem}")
            return None
        proofs = {name: facts.sha256 for name, facts in artifact.evidence.items()}
        self.seen.demand(
            stage, *(f"{self.place(target.name, role)}/{name}" for name in (*artifact.hashes, *artifact.evidence))
        )
        if not self.seen.sound(stage):
            return None
        size = sum((folder / name).stat().st_size for name in artifact.hashes)
        told = artifact.hashes | proofs, artifact.size_bytes, artifact.target, _role(artifact)
        if told != (self.recorded_files(target.name, role, (MANIFEST,)), size, target.name, role):
            self.seen.reject(manifest, "describes another file than the ones beside it")
        subject = self.seen.recorded(role, [f"{role}/{name}" for name in SUBJECT_FILES])
        if subject and self.seen.records[stage].key != export_key(target_for(target, role), self.asked.proof, subject):
            self.seen.reject(
                record_name(stage), f"tells of another target, other data or another {role} than this run's"
            )
        return artifact if self.seen.sound(stage) else None

    def counts(self, role: str, artifacts: Mapping[tuple[str, str], Artifact | None]) -> SubjectCounts | None:
        """The counts of a role's model; rejects them if no exported file agrees, otherwise the files that differ."""
        self.seen.demand(role, *(f"{role}/{name}" for name in (*SUBJECT_FILES, COUNTS)))
        if not self.seen.sound(role):
            return None
        try:
            counts = SubjectCounts.load(self.run.subject(role))
        except FileProblem as problem:
            self.seen.reject(f"{role}/{COUNTS}", str(problem))
            return None
        files = {target: each for (target, its), each in artifacts.items() if each and its == role}
        other = [target for target, each in files.items() if not _agree(counts, each)]
        if other and len(other) == len(files):
            self.seen.reject(f"{role}/{COUNTS}", "counts other work than the exported file has")
            return counts
        for target in other:
            self.seen.reject(
                f"{self.place(target, role)}/{MANIFEST}", f"tells of other work than {role}/{COUNTS} counts"
            )
        return counts

    def model(self, target: str, role: str, counts: SubjectCounts | None, artifact: Artifact | None) -> ModelRow:
        """The architecture, counts and file size of a role's model for a target; unverified values are missing."""
        return ModelRow(
            role,
            counts.architecture if counts else "not verified",
            counts.params if counts else None,
            counts.macs if counts else None,
            artifact.size_bytes if artifact else None,
            target,
            self.seen.files([QUESTION, role, export_stage(target, role)]),
            self.main_file(target, role),
            weights=WeightRow(**counts.weights.model_dump()) if counts and counts.weights else None,
        )

    def measured(self, target: str, device: Device) -> Measurement | None:
        """The recipe's measurement of a target on a device, if it is of that device, those files and those options."""
        stage, path = measure_stage(device.name, target), self.run.measurement(device.name, target)
        file = path.relative_to(self.run.folder).as_posix()
        self.seen.demand(stage, file)
        hashes = self.exported(target)
        if hashes is None or not self.seen.sound(stage):
            return None
        try:
            measurement = Measurement.load(path)
        except FileProblem as problem:
            self.seen.reject(file, f"cannot be read: {problem}")
            return None
        key = measurement_key(device, self.asked.recipe.measure.batch, None, None, hashes)
        if measurement.device.plain() != device.plain():
            self.seen.reject(
                file, f"was made on another device, or under another protocol, than the run's {device.name}"
            )
        elif any(arm.sha256 != hashes.get(arm.label) for arm in measurement.arms):
            self.seen.reject(file, OTHER_FILES)
        elif self.seen.records[stage].key != key:
            self.seen.reject(record_name(stage), "was made under other options than the recipe's")
        return measurement if self.seen.sound(stage) else None

    def answers(self, target: str, suite: str, device: Device | None) -> RobustnessResult | None:
        """The answers for a target to a suite of the recipe, if they are those files' and answer the recipe's question.

        They are this machine's, or those of a board.
        """
        board = board_name(device)
        stage, folder = robustness_stage(suite, target, board), self.run.robustness(suite, target, board)
        place = folder.relative_to(self.run.folder).as_posix()
        names = ["robustness.json", "examples.json", *(f"{name}.npz" for name in suites.get(suite).conditions)]
        names += [BOARD_FILE] if device else []
        self.seen.demand(stage, *(f"{place}/{name}" for name in names))
        recipe, hashes = self.asked.recipe, self.exported(target)
        if hashes is None or not self.seen.sound(stage):
            return None
        try:
            answered = RobustnessResult.load(folder)
        except FileProblem as problem:
            self.seen.reject(f"{place}/robustness.json", f"cannot be read: {problem}")
            return None
        if answered.models != hashes:
            self.seen.reject(f"{place}/robustness.json", OTHER_FILES)
        elif answered.answered_by.get("device") != (device.plain() if device else None):
            self.seen.reject(f"{place}/robustness.json", f"is not what {board or 'this machine'} answered")
        elif (answered.suite, answered.seed) != (suite, recipe.seed):
            self.seen.reject(f"{place}/robustness.json", "is about another suite or seed than the recipe's")
        elif answered.labelled != self.asked.labelled:
            self.seen.reject(f"{place}/robustness.json", "and the run do not agree on whether images have labels")
        elif self.seen.records[stage].key != answers_key(answered.key, recipe.robustness.images):
            self.seen.reject(record_name(stage), "was made under other options than the recipe's")
        if device:
            try:
                list(board_rows(folder, target, board))
            except FileProblem as problem:
                self.seen.reject(f"{place}/{BOARD_FILE}", f"cannot be read: {problem}")
        return answered if self.seen.sound(stage) else None

    def exported(self, target: str) -> dict[str, str] | None:
        """The recorded hashes of a target's files, by role; None if one was not recorded.

        If a file was changed since, the file itself is reported, not the results made from it before.
        """
        found = {role: self.unnamed(target, role) for role in ROLES}
        return {role: joint_hash(files) for role, files in found.items()} if all(found.values()) else None

    def place(self, target: str, role: str) -> str:
        """The path of an artifact in the run folder."""
        return (self.run.export(target) / role).relative_to(self.run.folder).as_posix()

    def recorded_files(self, target: str, role: str, but: Sequence[str] = (MANIFEST, PROOF)) -> dict[str, str]:
        """The recorded hash of each file of an artifact, without what only describes and proves it."""
        stage, start = export_stage(target, role), f"{self.place(target, role)}/"
        outputs = self.seen.records[stage].outputs if stage in self.seen.records else {}
        found = {file.removeprefix(start): digest for file, digest in outputs.items() if file.startswith(start)}
        return {name: digest for name, digest in found.items() if name not in but}

    def main_file(self, target: str, role: str) -> str:
        """The path of an artifact's main file in the run folder; empty if none was recorded."""
        name = self.main_name(target, role)
        return f"{self.place(target, role)}/{name}" if name else ""

    def main_name(self, target: str, role: str) -> str:
        """The name of an artifact's main file; empty if none was recorded."""
        known = next((each.main for each in self.asked.targets if each.name == target), "")
        alike = [name for name in self.recorded_files(target, role) if str(PurePosixPath(name).with_suffix("")) == STEM]
        return known if known in alike else next(iter(alike), "")

    def unnamed(self, target: str, role: str) -> dict[str, str]:
        """The recorded hashes of an artifact's files as its identity takes them: the main file has no name."""
        main = self.main_name(target, role)
        return {"" if name == main else name: each for name, each in self.recorded_files(target, role).items()}

    # Rows, each with the files that it rests on

    def files(self, target: str, stage: str) -> list[str]:
        """The evidence files of a figure that a stage took from the exported files of a target."""
        exports = [export_stage(target, role) for role in ROLES]
        return self.seen.files([stage, QUESTION, *exports, *ROLES])

    def warnings(self, measured: Iterable[tuple[str, Device, Measurement | None]]) -> Iterator[str]:
        """Targets that could not be exported, warnings of measurers and boards without answers, each with its place."""
        for (target, role), error in self.failures.items():
            yield export_failed(target, role, error)
        for target, device, measurement in measured:
            where = name_of(target if len(self.asked.targets) > 1 else "", device.name)
            yield from (f"{where}: {text}" for text in (measurement.warnings if measurement else ()))
        yield from dict.fromkeys(self.unanswered())

    def unanswered(self) -> Iterator[str]:
        """The boards that did not answer, or not as PyTorch did, and why."""
        names, suites_asked = self.asked.names, self.asked.recipe.robustness.suites
        for target, suite in itertools.product(names, suites_asked):
            for device in filter(None, self.asked.answering(target)):
                record = self.seen.records.get(robustness_stage(suite, target, device.name))
                if record and record.error:
                    yield f"{name_of(target if len(names) > 1 else '', device.name)}: {record.error}"

    def latency(self, target: str, device: Device, measurement: Measurement | None) -> Iterator[LatencyRow]:
        """The rows of a target on one device; a batch size that the recipe asks for and nobody measured has one too."""
        stage = measure_stage(device.name, target)
        rows = latency_rows(measurement, self.asked.recipe.gates) if measurement else []
        evidence = self.files(target, stage)
        for row in rows:
            yield replace(row, evidence=evidence, target=target)
        for batch in self.asked.recipe.measure.batch:
            if batch not in {row.batch for row in rows}:
                why = "not measured" if measurement else f"{NOT_VERIFIED}: {self.wrong(evidence)}"
                yield LatencyRow(device.name, batch, error=why, evidence=evidence, target=target)

    def accuracy(self, target: str, suite: str, board: str, answered: RobustnessResult | None) -> list[AccuracyRow]:
        """The rows of a target under one suite; without sound answers they are empty, but name what they rest on."""
        stage = robustness_stage(suite, target, board)
        if answered:
            rows = accuracy_rows(answered, self.asked.recipe.gates)
        else:
            rows = [AccuracyRow(suite, row) for row in averages(suites.get(suite).conditions)]
        evidence = self.files(target, stage)
        return [replace(row, evidence=evidence, target=target, device=board) for row in rows]

    def examples(self, target: str, suite: str, board: str) -> list[Example]:
        """Images worth looking at."""
        return load_examples(self.run.robustness(suite, target, board) / "examples.json")

    def steps(self) -> Iterator[StepRow]:
        """The steps that were applied to the model; figures of a step whose files were changed are left out."""
        for number, step in enumerate(self.asked.recipe.steps):
            stage, options = step_stage(number, step.name), json.dumps(step.plain()[step.name])
            row = self.step(stage, step, options, self.run.step(number, step.name))
            yield replace(row, evidence=self.seen.files([stage, QUESTION, CANDIDATE]))

    def step(self, stage: str, step: StepBase, options: str, folder: Path) -> StepRow:
        """One step, read only from files that its record vouches for."""
        read, place = files_of(folder, step.method.records), folder.relative_to(self.run.folder).as_posix()
        left = [f"subject/{file}" for file in SUBJECT_FILES]
        self.seen.demand(stage, *(f"{place}/{file}" for file in [*read, *left]))
        if self.seen.sound(stage):
            for file, problem in unreadable(folder, read):
                self.seen.reject(f"{place}/{file}", f"cannot be read: {problem}")
        if not self.seen.sound(stage):
            return StepRow(step.name, options, facts={NOT_VERIFIED: self.wrong(self.seen.files([stage]))})
        return step_row(step.name, options, folder, self.seen.records[stage].model_dump(exclude_none=True))

    def wrong(self, evidence: Sequence[str]) -> str:
        """The first file behind some figures that is not what the run wrote."""
        return next(file for file in evidence if file in self.seen.problems)

    def apart(self) -> list[str]:
        """Results under other options, and from other files: they lie beside the run's own, and nothing reads them."""
        found = sorted((self.run.folder / "extra").glob("*/*"))
        return [path.relative_to(self.run.folder).as_posix() for path in found]

    def environment(self) -> dict[str, str]:
        """The environment in which the run was made; empty if its record is not sound."""
        if not self.seen.sound(QUESTION):
            return {}
        try:
            return _environment(read_json(self.run.folder / "environment.json"))
        except (FileProblem, KeyError, TypeError, AttributeError):
            self.seen.reject("environment.json", "does not describe where the run was made")
            return {}


def _shown(part: Result, suite: str, sound: Iterable[tuple[str, str, str]]) -> tuple[str, str, str] | None:
    """The answers that images are shown from: those of the part of the result that the figures on top are about."""
    return next((one for one in sound if one[:2] == (part.targets[0], suite) and one[2] in part.boards), None)


def _role(artifact: Artifact) -> Any:
    return artifact.lineage.get("role") if isinstance(artifact.lineage, dict) else None


def _agree(counts: SubjectCounts, artifact: Artifact) -> bool:
    """True if the MACs counted in PyTorch are those that the receipt found in the file."""
    found = artifact.receipt.get("file") if isinstance(artifact.receipt, dict) else None
    return isinstance(found, dict) and found.get("macs") == counts.macs


def _exports(artifacts: Any) -> Iterator[ExportRow]:
    for artifact in artifacts:
        if artifact is not None:
            yield export_row(artifact)


def _environment(facts: dict[str, Any]) -> dict[str, str]:
    """The facts worth a line in a report; of an environment that the run was resumed in, those that differ."""
    first = _facts(facts)
    later = [_facts(each).items() - first.items() for each in facts.get(RESUMED, [])]
    told = ("; ".join(f"{name} {value}" for name, value in sorted(each)) or "other versions" for each in later)
    return first | {f"resumed ({number})": text for number, text in enumerate(told, 1)}


def _facts(facts: dict[str, Any]) -> dict[str, str]:
    packages = facts["packages"]
    names = ("edgecr", "torch", "onnxruntime", "albumentations")
    shown = {name: f"{packages[name]}" for name in names if packages[name]}
    machine = {
        "processor": facts["cpu"],
        "cores": facts["cores"],
        "threads": facts["threads"],
        "python": facts["python"],
    }
    git = facts["git"]
    code = {}
    if git:
        changed = f" + {git['changed_files']} changed files" if git["changed_files"] else ""
        code = {"git": f"{git['commit'][:12]}{changed}"}
    return {name: str(value) for name, value in (machine | shown | code).items() if value is not None}
