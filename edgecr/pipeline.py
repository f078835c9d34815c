"""From a checked recipe to a verdict: every stage is skipped when it is finished, and leaves a record when it is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecr import __version__
from edgecr.asked import recorded_devices
from edgecr.bench import DeviceBench
from edgecr.data import Dataset
from edgecr.environment import environment
from edgecr.errors import FileProblem, RequestError
from edgecr.exporters import exporters, load_target
from edgecr.files import sha256
from edgecr.judging import report
from edgecr.methods.base import Execution, Lab
from edgecr.progress import Monitor
from edgecr.recipe import Recipe, as_yaml
from edgecr.report.result import Result
from edgecr.run import ROLES, Run, RunMonitor, identity
from edgecr.runners.base import load_device, runner_for
from edgecr.stages import export_role, measure, robustness, set_aside
from edgecr.subject import Subject
from edgecr.surgery.plan_record import FILE as PLAN
from edgecr.training.checkpoint import discard


def compress(
    recipe: Recipe, purpose: str, root: Path, execution: Execution, monitor: Monitor, *, fresh: bool = False
) -> tuple[Run, Result]:
    """Runs a recipe to its end, or on from where it was stopped; returns the run and its result."""
    monitor.say(f"Reading data: {recipe.data.name}")
    _refuse_early(recipe)
    data = recipe.data.load(monitor)
    inputs = input_hashes(recipe)
    name = f"{recipe.name}-{identity(recipe.canonical(), data.fingerprint, inputs)[:8]}"
    run = Run(root / name)
    with run.writing():
        if fresh:
            run.clear()
        record = {
            "name": recipe.name,
            "purpose": purpose,
            "recipe": recipe.plain(),
            "canonical": recipe.canonical(),
            "data": data.fingerprint,
            "inputs": inputs,
            "devices": recorded_devices(recipe),
        }
        run.begin(record, as_yaml(recipe), environment(execution.threads))
        work = Work(recipe, run, data, inputs, execution, RunMonitor(run, monitor))
        return run, work.finish()


def _refuse_early(recipe: Recipe) -> None:
    """What export and measurement would refuse is rather refused now than after hours of training."""
    for target in map(load_target, recipe.export):
        exporters.get(target.format)().check(target)
    for device in map(load_device, recipe.measure.devices):
        runner_for(device)


@dataclass(frozen=True)
class Work:
    """One recipe on its way through the stages."""

    recipe: Recipe
    run: Run
    data: Dataset
    inputs: dict[str, str]
    execution: Execution
    monitor: Monitor

    def finish(self) -> Result:
        """Does what is left to do and judges the outcome."""
        for index in range(len(self.recipe.steps)):
            self.step(index)
        for role in ROLES:
            self.role(role)
        for target in self.recipe.export:
            for role in ROLES:
                export_role(self.run, role, target, self.data, self.execution, self.monitor)
        target = load_target(self.recipe.export[0]).name
        for device in self.recipe.measure.devices:
            measure(self.run, device, target, self.recipe.measure.batch, self.monitor)
        for suite in self.recipe.robustness.suites:
            robustness(self.run, suite, target, self.data, self.recipe.robustness.images, self.monitor)
        return self.judge()

    def judge(self) -> Result:
        """Writes the report, unless it already tells of exactly these stages."""
        key = identity(
            __version__,
            *(sha256(file) for file in sorted(self.run.folder.glob("stages/*.json")) if file.stem != "report")
        )
        path = self.run.folder / "report.json"
        if self.run.finished("report", key):
            self.monitor.say("This run was finished before; nothing had to be done. --fresh starts it anew.")
            return Result.load(path)
        result = report(self.run)
        self.run.finish("report", key, [path, path.with_suffix(".md"), path.with_suffix(".html")])
        return result

    @property
    def classes(self) -> int:
        """The number of classes, which the model and the data must agree on."""
        found, asked = len(self.data.classes), self.recipe.model.classes
        if asked is not None and asked != found:
            raise RequestError(
                f"model.classes is {asked}, but the data has {found} classes "
                f"({', '.join(self.data.classes[:5])}…). Leave model.classes out, or change the data."
            )
        return found

    def key(self, steps: int) -> str:
        """What the subject after that many steps depends on."""
        model = self.recipe.model.model_dump(mode="json", exclude_defaults=True, exclude={"weights"})
        done = [step.plain() for step in self.recipe.steps[:steps]]
        return identity(self.recipe.seed, model, self.classes, self.inputs, self.data.fingerprint, done)

    def step(self, index: int) -> None:
        """Runs one step unless it, or a sibling run's identical one, is finished."""
        step = self.recipe.steps[index]
        name, key = f"step-{index:02d}-{step.name}", self.key(index + 1)
        folder = self.run.step(index, step.name)
        if self.run.finished(name, key):
            return
        title = f"Step {index + 1} of {len(self.recipe.steps)}: {step.name}"
        outputs = [folder / "subject", folder / "history.json", folder / PLAN]
        if lender := self.run.borrow(name, key, outputs):
            self.monitor.say(f"{title} is taken from {lender}, which did the same steps on this machine")
            return
        before = self.subject(index)
        self.monitor.say(title)
        seed, bench = self.recipe.seed * 1000 + index, DeviceBench(self.monitor)
        lab = Lab(self.data, seed, folder, self.execution, self.monitor, bench)
        start = time.monotonic()
        step.method.apply(before, lab).save(folder / "subject")
        seconds = round(time.monotonic() - start, 1)
        self.run.finish(name, key, outputs, seconds=seconds)
        discard(folder)

    def subject(self, steps: int) -> Subject:
        """The subject after that many steps."""
        code = self.execution.allow_code
        if steps:
            folder = self.run.step(steps - 1, self.recipe.steps[steps - 1].name)
            return Subject.load(folder / "subject", allow_code=code)
        size = self.data.preprocessing.size
        return Subject.create(self.recipe.model, self.classes, size, self.recipe.seed, allow_code=code)

    def role(self, role: str) -> None:
        """Sets the baseline or the candidate aside: what every later stage compares."""
        steps = self.recipe.baseline_steps if role == "baseline" else len(self.recipe.steps)
        key = identity("counted", self.key(steps))
        if not self.run.finished(role, key):
            set_aside(self.run, role, key, self.subject(steps))


def input_hashes(recipe: Recipe) -> dict[str, str]:
    """The content hashes of every file and run that the model and the steps read."""
    found: dict[str, str] = {}
    for path in _paths([recipe.model.model_dump(), *(step.model_dump() for step in recipe.steps)]):
        subjects = [path / "baseline" / name for name in ("subject.json", "tensors.safetensors")]
        files = [path] if path.is_file() else [file for file in subjects if file.is_file()]
        if not files:
            raise FileProblem(f"{path} is neither a checkpoint file nor a finished run (from the recipe).")
        found[str(path)] = identity(*(sha256(file) for file in files))
    return found


def _paths(value: Any) -> Iterator[Path]:
    if isinstance(value, Path):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        yield from _paths(inner)
