"""Setting aside, export, measure and robustness of a run: the pipeline goes through them, commands call one at a time.

What gates read is written under the recipe's own options only. A command that asks for anything else gets a result of
its own in ``extra/``. Judging what lies here is in ``edgecr.stages.judge``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgecr.core.errors import FileProblem, RequestError
from edgecr.core.files import read_json, sha256, storage_errors
from edgecr.core.progress import Monitor
from edgecr.data.views import HeldOutData, ProofData
from edgecr.exporters import Artifact, exporters, load_target
from edgecr.exporters.base import Target
from edgecr.models.external import source_of
from edgecr.predictors import predictor_for
from edgecr.recipe import Recipe
from edgecr.recipe.inputs import own_models
from edgecr.report.result import BASELINE
from edgecr.robustness.evaluate import evaluate
from edgecr.robustness.examples import pick_examples, save_examples
from edgecr.robustness.result import QUESTION_FILE, RobustnessResult
from edgecr.robustness.suites import suites
from edgecr.run import ROLES, Run
from edgecr.runners.base import Measurement, MeasurePlan, load_device, runner_for
from edgecr.runners.measurement.completeness import shortfall
from edgecr.stages.asked import (
    SUBJECT_FILES,
    Asked,
    answers_key,
    export_key,
    export_stage,
    measure_stage,
    measurement_key,
    robustness_stage,
)
from edgecr.stages.subject_counts import SubjectCounts
from edgecr.subject import Subject
from edgecr.surgery.counters import count
from edgecr.training.context import Execution


def set_aside(run: Run, role: str, key: str, subject: Subject) -> None:
    """Keeps the baseline or the candidate, and counts it now: nothing later has to build it for its figures."""
    folder = run.subject(role)
    subject.save(folder)
    figures = count(subject.module, subject.input_shape)
    SubjectCounts(architecture=_in_words(subject), params=figures.params, macs=figures.macs).save(folder)
    run.finish(role, key, [folder])


def _in_words(subject: Subject) -> str:
    options = {key: value for key, value in subject.record()["architecture"].items() if key != "arch"}
    text = subject.architecture.arch + (f" {json.dumps(options)}" if options else "")
    cuts = len(subject.surgery)
    return text + (f", cut {cuts} time{'s' if cuts > 1 else ''}" if cuts else "")


def refuse_namesake(run: Run, target: Target) -> None:
    """Raises for another target that bears the name of one of the run's: it would be written over what is judged."""
    if any(each.name == target.name and each.plain() != target.plain() for each in Asked.of(run).targets):
        raise RequestError(
            f"The run's target {target.name!r} was declared otherwise than {target.name!r} is here; exporting would "
            "overwrite what the run is judged by. Give the other target a name of its own."
        )


def export_role(
    run: Run, role: str, target_name: str, data: ProofData, execution: Execution, monitor: Monitor
) -> Artifact:
    """Exports and proves the baseline or the candidate for one target."""
    target = load_target(target_name)
    folder, name = run.export(target.name) / role, export_stage(target.name, role)
    subject_files = [sha256(run.subject(role) / file) for file in SUBJECT_FILES]
    key = export_key(target, data.fingerprint, subject_files)
    if run.finished(name, key):
        return Artifact.load(folder / "model.onnx")
    subject = _sound_subject(run, role, execution)
    monitor.say(f"Exporting the {role} for {target.name}")
    exporter = exporters.get(target.format)()
    lineage = {"run": run.folder.name, "role": role, "steps": steps_behind(run, role)}
    artifact = exporter.export(subject, target, data, folder, lineage)
    run.finish(name, key, [folder])
    return artifact


def _sound_subject(run: Run, role: str, execution: Execution) -> Subject:
    """The baseline or the candidate as it was set aside; permission to run code is for the recipe's own models only."""
    folder = run.subject(role)
    if changed := run.damaged(role):
        raise FileProblem(f"{changed[0]} is not what was set aside. Run the recipe again: edgecr compress.")
    arch = read_json(folder / "subject.json")["architecture"]["arch"]
    if source_of(arch) == "code" and arch not in own_models(Recipe.parse(run.record["recipe"])):
        raise FileProblem(f"{folder / 'subject.json'} names code that the run's recipe does not name: {arch}.")
    return Subject.load(folder, allow_code=execution.allow_code)


@dataclass(frozen=True)
class Exports:
    """Both exported files of a target as they lie there now."""

    artifacts: Mapping[str, Artifact]
    changed: tuple[Path, ...]
    """Files that are not the ones which were exported."""

    @property
    def hashes(self) -> dict[str, str]:
        """What the files hash to now, by role."""
        return {role: artifact.sha256 for role, artifact in self.artifacts.items()}

    @property
    def paths(self) -> dict[str, Path]:
        """Where the files lie, by role."""
        return {role: artifact.path for role, artifact in self.artifacts.items()}


def exports(run: Run, target: str) -> Exports:
    """Both exported files of a target; hashes and sizes are the files' own, whatever the manifests say."""
    found = {role: run.export(target) / role / "model.onnx" for role in ROLES}
    for role, path in found.items():
        if not path.is_file():
            raise FileProblem(
                f"{run.folder} has no {role} exported for {target!r}. "
                f"Export it first: edgecr export {run.folder} --target {target}"
            )
    told = {role: Artifact.load(path) for role, path in found.items()}
    real = {
        role: replace(each, sha256=sha256(each.path), size_bytes=each.path.stat().st_size)
        for role, each in told.items()
    }
    damaged = [file for role in ROLES for file in run.damaged(export_stage(target, role))]
    return Exports(
        real, tuple(dict.fromkeys([*damaged, *(real[role].path for role in ROLES if real[role] != told[role])]))
    )


def measure(
    run: Run,
    device_name: str,
    target: str,
    batches: Sequence[int] | None,
    monitor: Monitor,
    *,
    launches: int | None = None,
    rounds: int | None = None,
) -> Measurement:
    """Measures baseline and candidate interleaved on one device; what is there already is not measured again.

    Only with the recipe's device, target, batch sizes and protocol is the result the run's; any other is kept beside.
    """
    device, asked, files = load_device(device_name), Asked.of(run), exports(run, target)
    recipe = asked.recipe.measure.batch
    batches = recipe if batches is None or set(batches) == set(recipe) else tuple(batches)
    key = measurement_key(device, batches, launches, rounds, files.hashes)
    own = (
        batches == recipe
        and launches is None
        and rounds is None
        and target == asked.judged
        and device.plain() in [each.plain() for each in asked.devices]
    )
    place = _place(
        run, measure_stage(device.name, target), run.measurement(device.name, target), key, own, files, monitor
    )
    if run.finished(place.stage, key):
        known = Measurement.load(place.path)
        if not shortfall(known):
            return known
    plan = MeasurePlan.of(files.paths, batches, launches=launches, rounds=rounds)
    monitor.say(f"Measuring on {device.name}")
    measurement = runner_for(device).measure(plan, monitor)
    measurement.save(place.path)
    run.finish(place.stage, key, [place.path])
    return measurement


def robustness(
    run: Run, suite_name: str, target: str, data: HeldOutData, images: int | None, monitor: Monitor
) -> RobustnessResult:
    """Shows both exported files the same corrupted test images.

    Only with the recipe's suite, target and number of images is the result the run's; any other is kept beside.
    """
    suite, asked, files = suites.get(suite_name), Asked.of(run), exports(run, target)
    recipe, seed = asked.recipe.robustness, asked.recipe.seed
    chosen = np.arange(len(data.test))
    if images is not None and images < len(chosen):
        chosen = np.sort(np.random.default_rng(seed).choice(len(chosen), images, replace=False))
    own = images == recipe.images and target == asked.judged and suite.name in recipe.suites
    stage, folder = robustness_stage(suite.name, target), run.robustness(suite.name, target)
    place = _place(run, stage, folder, answers_key(json.dumps(files.hashes), images), own, files, monitor)
    if (place.path / QUESTION_FILE).exists() and not run.stage(place.stage).exists():
        monitor.warn(f"{place.path} has answers that no record vouches for; they are made again.")
        with storage_errors(place.path):
            shutil.rmtree(place.path)
    for file in run.damaged(place.stage):
        monitor.warn(f"{file} was changed after it was written, and is made again.")
        with storage_errors(file):
            file.unlink(missing_ok=True)
    predictors = {role: predictor_for(artifact) for role, artifact in files.artifacts.items()}
    answered = evaluate(
        predictors, suite, data.test, place.path, indices=chosen, seed=seed, identities=files.hashes, monitor=monitor
    )
    key = answers_key(answered.key, images)
    if not run.finished(place.stage, key):
        save_examples(place.path / "examples.json", pick_examples(answered, suite, data.test, data.classes))
        run.finish(place.stage, key, [place.path])
    return answered


@dataclass(frozen=True)
class _Place:
    """Where a result is kept, and the stage that vouches for it."""

    stage: str
    path: Path


def _place(run: Run, stage: str, path: Path, key: str, own: bool, files: Exports, monitor: Monitor) -> _Place:
    """The run's own place, or one beside it for other options and for files that are not the exported ones."""
    for file in files.changed:
        monitor.warn(f"{file} is not what was exported; what follows is about the file as it is now.")
    if own and not files.changed:
        return _Place(stage, path)
    beside = run.beside(path, key)
    monitor.say(
        f"These are not the recipe's own options and files: the result is kept apart, in {beside}, and not judged"
    )
    return _Place(f"extra/{stage}-{key[:8]}", beside)


def steps_behind(run: Run, role: str) -> list[str]:
    """The names of the steps that made a role's model."""
    recipe = Recipe.parse(run.record["recipe"])
    names = [step.name for step in recipe.steps]
    return names[: recipe.baseline_steps] if role == BASELINE else names
