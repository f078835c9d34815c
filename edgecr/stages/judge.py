"""Judges a run by what lies in its folder: verified first, then read, then held against the gates.

Nothing here builds a model, runs code of the run, or imports torch. Files that fail their hash are not read; every
row carries the files that it rests on, so that a gate on any of them is incomplete and names it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgecr.core.errors import FileProblem
from edgecr.core.files import joint_hash, read_json
from edgecr.exporters.artifact import MANIFEST, Artifact
from edgecr.exporters.base import Target
from edgecr.recipe import StepBase, as_yaml
from edgecr.report.build import accuracy_rows, build_result, export_row
from edgecr.report.latency_rows import latency_rows
from edgecr.report.result import (
    CANDIDATE,
    NOT_VERIFIED,
    AccuracyRow,
    ExportRow,
    LatencyRow,
    ModelRow,
    Result,
    StepRow,
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
    export_key,
    export_stage,
    measure_stage,
    measurement_key,
    robustness_stage,
    step_stage,
)
from edgecr.stages.subject_counts import COUNTS, SubjectCounts
from edgecr.stages.verification import Verification, record_name, verify

OTHER_FILES = "was made from other model files"


def report(run: Run) -> Result:
    """Judges a run and writes the report's three files."""
    result = judged(run)
    write_report(result, run.folder)
    return result


def judged(run: Run) -> Result:
    """The verdict on a run, derived anew from its evidence; a written report is never believed."""
    asked = Asked.of(run)
    return _Case(run, asked, verify(run, asked.stages())).result()


@dataclass(frozen=True)
class _Case:
    """A run, what it was asked, and what of its evidence is sound."""

    run: Run
    asked: Asked
    seen: Verification

    def result(self) -> Result:
        """Everything verified, read and judged; reading comes before the rows that rest on it."""
        self.seen.demand(QUESTION, "run.json", "environment.json")
        artifacts = {
            (target.name, role): self.artifact(target, role) for target in self.asked.targets for role in ROLES
        }
        models = [self.model(role, artifacts[self.asked.judged, role]) for role in ROLES]
        measured = [self.measured(device) for device in self.asked.devices]
        answers = {name: self.answers(name) for name in self.asked.recipe.robustness.suites}
        gates, sound = self.asked.recipe.gates, [each for each in measured if isinstance(each, Measurement)]
        return build_result(
            name=self.asked.recipe.name,
            id=self.run.folder.name,
            purpose=self.asked.purpose,
            created=self.asked.created,
            recipe=as_yaml(self.asked.recipe),
            environment=self.environment(),
            gates=gates,
            models=models,
            exports=list(_exports(artifacts.values())),
            latency=[row for pair in zip(self.asked.devices, measured) for row in self.latency(*pair)],
            warnings=[f"{each.device.name}: {text}" for each in sound for text in each.warnings],
            accuracy=[row for name, answered in answers.items() for row in self.accuracy(name, answered)],
            examples=[example for name, answered in answers.items() if answered for example in self.examples(name)],
            steps=list(self.steps()),
            unverified=self.seen.problems,
            apart=self.apart(),
            allow_partial=self.asked.recipe.measure.allow_partial,
        )

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
        self.seen.demand(stage, *(f"{self.place(target.name, role)}/{name}" for name in artifact.hashes))
        if not self.seen.sound(stage):
            return None
        size = sum((folder / name).stat().st_size for name in artifact.hashes)
        told = artifact.hashes, artifact.size_bytes, artifact.target, _role(artifact)
        if told != (self.recorded_files(target.name, role), size, target.name, role):
            self.seen.reject(manifest, "describes another file than the ones beside it")
        subject = self.seen.recorded(role, [f"{role}/{name}" for name in SUBJECT_FILES])
        if subject and self.seen.records[stage].key != export_key(target, self.asked.proof, subject):
            self.seen.reject(
                record_name(stage), f"tells of another target, other data or another {role} than this run's"
            )
        return artifact if self.seen.sound(stage) else None

    def model(self, role: str, artifact: Artifact | None) -> ModelRow:
        """What a role's model is and how large; what is not sound is missing."""
        self.seen.demand(role, *(f"{role}/{name}" for name in (*SUBJECT_FILES, COUNTS)))
        counts, folder = None, self.run.subject(role)
        if self.seen.sound(role):
            try:
                counts = SubjectCounts.load(folder)
            except FileProblem as problem:
                self.seen.reject(f"{role}/{COUNTS}", str(problem))
        if counts and artifact and not _agree(counts, artifact):
            self.seen.reject(f"{role}/{COUNTS}", "counts other work than the exported file has")
        return ModelRow(
            role,
            counts.architecture if counts else "not verified",
            counts.params if counts else None,
            counts.macs if counts else None,
            artifact.size_bytes if artifact else None,
            self.asked.judged,
            self.seen.files([QUESTION, role, export_stage(self.asked.judged, role)]),
        )

    def measured(self, device: Device) -> Measurement | None:
        """The recipe's measurement on a device, if it is of that device, those files and those options."""
        target = self.asked.judged
        stage, path = measure_stage(device.name, target), self.run.measurement(device.name, target)
        file = path.relative_to(self.run.folder).as_posix()
        self.seen.demand(stage, file)
        if not self.seen.sound(stage):
            return None
        try:
            measurement = Measurement.load(path)
        except FileProblem as problem:
            self.seen.reject(file, f"cannot be read: {problem}")
            return None
        hashes = self.exported()
        if hashes is None:
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

    def answers(self, suite: str) -> RobustnessResult | None:
        """The recipe's answers to a suite, if they are those files' and answer the recipe's question."""
        target = self.asked.judged
        stage, folder = robustness_stage(suite, target), self.run.robustness(suite, target)
        place = folder.relative_to(self.run.folder).as_posix()
        names = ("robustness.json", "examples.json", *(f"{name}.npz" for name in suites.get(suite).conditions))
        self.seen.demand(stage, *(f"{place}/{name}" for name in names))
        if not self.seen.sound(stage):
            return None
        try:
            answered = RobustnessResult.load(folder)
        except FileProblem as problem:
            self.seen.reject(f"{place}/robustness.json", f"cannot be read: {problem}")
            return None
        recipe, hashes = self.asked.recipe, self.exported()
        if hashes is None:
            return None
        if answered.models != hashes:
            self.seen.reject(f"{place}/robustness.json", OTHER_FILES)
        elif (answered.suite, answered.seed) != (suite, recipe.seed):
            self.seen.reject(f"{place}/robustness.json", "is about another suite or seed than the recipe's")
        elif self.seen.records[stage].key != answers_key(answered.key, recipe.robustness.images):
            self.seen.reject(record_name(stage), "was made under other options than the recipe's")
        return answered if self.seen.sound(stage) else None

    def exported(self) -> dict[str, str] | None:
        """What the files of the judged target were recorded to hash to, by role; None where none were recorded.

        A file that was changed since is named as such, and not whatever was made from it before.
        """
        found = {role: self.recorded_files(self.asked.judged, role) for role in ROLES}
        return {role: joint_hash(files) for role, files in found.items()} if all(found.values()) else None

    def place(self, target: str, role: str) -> str:
        """Where an artifact lies in the run folder."""
        return (self.run.export(target) / role).relative_to(self.run.folder).as_posix()

    def recorded_files(self, target: str, role: str) -> dict[str, str]:
        """What each file of an artifact was recorded to hash to; its manifest is none of them."""
        stage, start = export_stage(target, role), f"{self.place(target, role)}/"
        outputs = self.seen.records[stage].outputs if stage in self.seen.records else {}
        found = {file.removeprefix(start): digest for file, digest in outputs.items() if file.startswith(start)}
        return {name: digest for name, digest in found.items() if name != MANIFEST}

    # Rows, each with the files that it rests on

    def files(self, stage: str) -> list[str]:
        """What a figure rests on that was taken from the exported files in some stage."""
        exports = [export_stage(self.asked.judged, role) for role in ROLES]
        return self.seen.files([stage, QUESTION, *exports, *ROLES])

    def latency(self, device: Device, measurement: Measurement | None) -> Iterator[LatencyRow]:
        """The rows of one device; a batch size that the recipe asks for and nobody measured has one too."""
        stage = measure_stage(device.name, self.asked.judged)
        rows = latency_rows(measurement) if measurement else []
        for row in rows:
            yield replace(row, evidence=self.files(stage))
        for batch in self.asked.recipe.measure.batch:
            if batch not in {row.batch for row in rows}:
                why = "not measured" if measurement else f"{NOT_VERIFIED}: {self.wrong(stage)}"
                yield LatencyRow(device.name, batch, error=why, evidence=self.files(stage))

    def accuracy(self, suite: str, answered: RobustnessResult | None) -> list[AccuracyRow]:
        """The rows of one suite; without sound answers they are empty, but name what they would rest on."""
        stage = robustness_stage(suite, self.asked.judged)
        if answered:
            rows = accuracy_rows(answered, self.asked.recipe.gates)
        else:
            rows = [AccuracyRow(suite, row) for row in averages(suites.get(suite).conditions)]
        return [replace(row, evidence=self.files(stage)) for row in rows]

    def examples(self, suite: str) -> list[Example]:
        """Images worth looking at."""
        return load_examples(self.run.robustness(suite, self.asked.judged) / "examples.json")

    def steps(self) -> Iterator[StepRow]:
        """What was done to the model; the figures of a step whose files were changed are left out."""
        for number, step in enumerate(self.asked.recipe.steps):
            stage, options = step_stage(number, step.name), json.dumps(step.plain()[step.name])
            row = self.step(stage, step, options, self.run.step(number, step.name))
            left = [stage, QUESTION, CANDIDATE, export_stage(self.asked.judged, CANDIDATE)]
            yield replace(row, evidence=self.seen.files(left))

    def step(self, stage: str, step: StepBase, options: str, folder: Path) -> StepRow:
        """One step, read only from files that its record vouches for."""
        read, place = files_of(folder, step.method.records), folder.relative_to(self.run.folder).as_posix()
        left = [f"subject/{file}" for file in SUBJECT_FILES]
        self.seen.demand(stage, *(f"{place}/{file}" for file in [*read, *left]))
        if self.seen.sound(stage):
            for file, problem in unreadable(folder, read):
                self.seen.reject(f"{place}/{file}", f"cannot be read: {problem}")
        if not self.seen.sound(stage):
            return StepRow(step.name, options, facts={NOT_VERIFIED: self.wrong(stage)})
        return step_row(step.name, options, folder, self.seen.records[stage].model_dump(exclude_none=True))

    def wrong(self, stage: str) -> str:
        """The first file behind a stage's figures that is not what the run wrote."""
        return next(file for file in self.files(stage) if file in self.seen.problems)

    def apart(self) -> list[str]:
        """Results under other options, and from other files: they lie beside the run's own, and nothing reads them."""
        found = sorted((self.run.folder / "extra").glob("*/*"))
        return [path.relative_to(self.run.folder).as_posix() for path in found]

    def environment(self) -> dict[str, str]:
        """Where the run was made, if its record of that is sound."""
        if not self.seen.sound(QUESTION):
            return {}
        try:
            return _environment(read_json(self.run.folder / "environment.json"))
        except (FileProblem, KeyError, TypeError, AttributeError):
            self.seen.reject("environment.json", "does not describe where the run was made")
            return {}


def _role(artifact: Artifact) -> Any:
    return artifact.lineage.get("role") if isinstance(artifact.lineage, dict) else None


def _agree(counts: SubjectCounts, artifact: Artifact) -> bool:
    """Whether the work counted in PyTorch is what the receipt found in the file."""
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
