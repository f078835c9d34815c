"""Export, measure, robustness and report of one run: the pipeline goes through them, commands call one at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from edgecr.data.views import HeldOutData, ProofData
from edgecr.errors import FileProblem
from edgecr.exporters import Artifact, exporters, load_target
from edgecr.files import read_json, sha256
from edgecr.methods.base import Execution
from edgecr.predictors import predictor_for
from edgecr.progress import Monitor
from edgecr.recipe import Recipe
from edgecr.report.build import build_result, export_row
from edgecr.report.latency_rows import latency_rows
from edgecr.report.result import BASELINE, LatencyRow, ModelRow, Result, StepRow
from edgecr.report.step_rows import step_row
from edgecr.report.write import write_report
from edgecr.robustness.evaluate import evaluate
from edgecr.robustness.examples import load_examples, pick_examples, save_examples
from edgecr.robustness.result import RobustnessResult
from edgecr.robustness.suites import suites
from edgecr.run import ROLES, Run, identity
from edgecr.runners.base import Measurement, MeasurePlan, load_device, runner_for
from edgecr.subject import Subject
from edgecr.surgery.counters import count


def export_role(
    run: Run, role: str, target_name: str, data: ProofData, execution: Execution, monitor: Monitor
) -> Artifact:
    """Exports and proves the baseline or the candidate for one target."""
    target = load_target(target_name)
    folder = run.export(target.name) / role
    name, key = (
        f"export-{target.name}-{role}",
        identity(target.plain(), data.fingerprint, *(sha256(file) for file in sorted(run.subject(role).iterdir()))),
    )
    if run.finished(name, key):
        return Artifact.load(folder / "model.onnx")
    monitor.say(f"Exporting the {role} for {target.name}")
    subject = Subject.load(run.subject(role), allow_code=execution.allow_code)
    exporter = exporters.get(target.format)()
    lineage = {"run": run.folder.name, "role": role, "steps": steps_behind(run, role)}
    artifact = exporter.export(subject, target, data, folder, lineage)
    run.finish(name, key, [folder])
    return artifact


def artifacts(run: Run, target: str) -> dict[str, Artifact]:
    """Both exported files of a target."""
    found = {role: run.export(target) / role / "model.onnx" for role in ROLES}
    for role, path in found.items():
        if not path.is_file():
            raise FileProblem(
                f"{run.folder} has no {role} exported for {target!r}. "
                f"Export it first: edgecr export {run.folder} --target {target}"
            )
    return {role: Artifact.load(path) for role, path in found.items()}


def measure(
    run: Run,
    device_name: str,
    target: str,
    batches: Sequence[int],
    monitor: Monitor,
    *,
    launches: int | None = None,
    rounds: int | None = None,
) -> Measurement:
    """Measures baseline and candidate interleaved on one device; what is there already is not measured again."""
    device, files = load_device(device_name), artifacts(run, target)
    path = run.measurement(device.name, target)
    name, key = (
        f"measure-{device.name}-{target}",
        identity(device.plain(), list(batches), launches, rounds, *(artifact.sha256 for artifact in files.values())),
    )
    if run.finished(name, key):
        return Measurement.load(path)
    plan = MeasurePlan.of({role: file.path for role, file in files.items()}, batches, launches=launches, rounds=rounds)
    monitor.say(f"Measuring on {device.name}")
    measurement = runner_for(device).measure(plan, monitor)
    measurement.save(path)
    if measurement.error:
        monitor.warn(f"{device.name}: {measurement.error}")
    else:
        run.finish(name, key, [path])
    return measurement


def robustness(
    run: Run, suite_name: str, target: str, data: HeldOutData, images: int | None, seed: int, monitor: Monitor
) -> RobustnessResult:
    """Shows both exported files the same corrupted test images."""
    suite, files = suites.get(suite_name), artifacts(run, target)
    folder = run.robustness(suite.name, target)
    chosen = np.arange(len(data.test))
    if images is not None and images < len(chosen):
        chosen = np.sort(np.random.default_rng(seed).choice(len(chosen), images, replace=False))
    predictors = {role: predictor_for(artifact) for role, artifact in files.items()}
    hashes = {role: artifact.sha256 for role, artifact in files.items()}
    answered = evaluate(
        predictors, suite, data.test, folder, indices=chosen, seed=seed, identities=hashes, monitor=monitor
    )
    name, key = f"robustness-{suite.name}-{target}", identity(read_json(folder / "robustness.json")["key"])
    if not run.finished(name, key):
        save_examples(folder / "examples.json", pick_examples(answered, suite, data.test, data.classes))
        run.finish(name, key, [folder])
    return answered


def report(run: Run) -> Result:
    """Judges what lies in the run folder and writes the report's three files."""
    record, recipe = run.record, Recipe.parse(run.record["recipe"])
    target = load_target(recipe.export[0]).name
    files = artifacts(run, target)
    exports = [
        export_row(artifact) for name in recipe.export for artifact in artifacts(run, load_target(name).name).values()
    ]
    answers = [run.robustness(suites.get(name).name, target) for name in recipe.robustness.suites]
    measured = list(_measurements(run, recipe, target))
    result = build_result(
        name=recipe.name,
        id=run.folder.name,
        purpose=record["purpose"],
        created=record["created"],
        recipe=(run.folder / "recipe.yaml").read_text(encoding="utf-8"),
        environment=_environment(read_json(run.folder / "environment.json")),
        gates=recipe.gates,
        models=[_model_row(run, role, files[role]) for role in ROLES],
        exports=exports,
        latency=[row for rows, _ in measured for row in rows],
        warnings=[text for _, texts in measured for text in texts],
        robustness=[RobustnessResult.load(folder) for folder in answers],
        examples=[example for folder in answers for example in load_examples(folder / "examples.json")],
        steps=list(_steps(run, recipe)),
    )
    write_report(result, run.folder)
    return result


def steps_behind(run: Run, role: str) -> list[str]:
    """The names of the steps that made a role's model."""
    recipe = Recipe.parse(run.record["recipe"])
    names = [step.name for step in recipe.steps]
    return names[: recipe.baseline_steps] if role == BASELINE else names


def _model_row(run: Run, role: str, artifact: Artifact) -> ModelRow:
    subject = Subject.load(run.subject(role), allow_code=run.record["allow_code"])
    figures = count(subject.module, subject.input_shape)
    options = {key: value for key, value in subject.record()["architecture"].items() if key != "arch"}
    text = subject.architecture.arch + (f" {json.dumps(options)}" if options else "")
    if subject.surgery:
        text += f", cut {len(subject.surgery)} time{'s' if len(subject.surgery) > 1 else ''}"
    return ModelRow(role, text, figures.params, figures.macs, artifact.size_bytes, artifact.target)


def _measurements(run: Run, recipe: Recipe, target: str) -> Iterator[tuple[list[LatencyRow], list[str]]]:
    """Rows and warnings of every device that the recipe names or that was measured since."""
    asked = [load_device(name).name for name in recipe.measure.devices]
    found = {path: Measurement.load(path) for path in sorted((run.folder / "measure").glob(f"*-{target}.json"))}
    for name in asked:
        if run.measurement(name, target) not in found:
            yield [LatencyRow(name, batch, error="not measured") for batch in recipe.measure.batch], []
    for measurement in found.values():
        yield latency_rows(measurement), [f"{measurement.device.name}: {text}" for text in measurement.warnings]


def _steps(run: Run, recipe: Recipe) -> Iterator[StepRow]:
    for index, step in enumerate(recipe.steps):
        stage = read_json(run.stage(f"step-{index:02d}-{step.name}"))
        yield step_row(step.name, json.dumps(step.plain()[step.name]), run.step(index, step.name), stage)


def _environment(facts: dict[str, Any]) -> dict[str, str]:
    """The facts worth a line in a report."""
    packages = facts["packages"]
    shown = {
        name: f"{packages[name]}" for name in ("edgecr", "torch", "onnxruntime", "albumentations") if packages[name]
    }
    machine = {
        "processor": facts["cpu"],
        "cores": facts["cores"],
        "threads": facts["threads"],
        "python": facts["python"],
    }
    git = facts["git"]
    code = (
        {"git": git["commit"][:12] + (f" + {git['changed_files']} changed files" if git["changed_files"] else "")}
        if git
        else {}
    )
    return {name: str(value) for name, value in (machine | shown | code).items() if value is not None}
