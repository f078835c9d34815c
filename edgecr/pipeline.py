"""From a checked recipe to a verdict: every stage is skipped when it is finished, and leaves a record when it is."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgecr.core.environment import environment
from edgecr.core.errors import DeviceFailed, NotConfigured, RequestError
from edgecr.core.files import read_json, sha256
from edgecr.core.progress import Monitor
from edgecr.data import Dataset
from edgecr.data.views import HeldOutData, LearningData, ProofData
from edgecr.exporters import Target, exporters, load_target
from edgecr.latency_builder.device_latencies import AgentLatencies
from edgecr.latency_builder.forms import load_measurable, runtime_of
from edgecr.methods.base import Method
from edgecr.recipe import Recipe, as_yaml
from edgecr.recipe.inputs import code_hashes, input_hashes, paths_in
from edgecr.recipe.labels import refuse_without_labels
from edgecr.recipe.walk import reads_baseline
from edgecr.report.candidates import name_of
from edgecr.report.result import Result
from edgecr.run import ROLES, Run, RunMonitor, identity
from edgecr.runners.base import Device, load_device, runner_for, usable_device
from edgecr.stages.asked import Asked, export_failed, question
from edgecr.stages.export import failure_words, set_aside, try_role
from edgecr.stages.judge import judged, report
from edgecr.stages.measure import measure
from edgecr.stages.robustness import robustness
from edgecr.stages.step_differences import nearest
from edgecr.stages.step_store import Step, StepStore, accelerator, threads
from edgecr.subject import Subject
from edgecr.training.context import SNAPSHOTS, Execution, StepContext


def compress(
    recipe: Recipe, purpose: str, root: Path, execution: Execution, monitor: Monitor, *, fresh: bool = False
) -> tuple[Run, Result]:
    """Runs a recipe to its end, or on from where it was stopped; returns the run and its result."""
    _refuse_early(recipe)
    code = code_hashes(recipe, execution)
    inputs = input_hashes(recipe.model, *recipe.steps)
    monitor.say(f"Reading data: {recipe.data.name}")
    data = recipe.data.load(monitor)
    if not data.labelled:
        refuse_without_labels(recipe)
    name = f"{recipe.name}-{identity(recipe.canonical(), data.fingerprint, inputs, code)[:8]}"
    run = Run(root / name)
    with run.writing():
        if fresh:
            run.clear()
        record = question(recipe, purpose, data) | {"inputs": inputs, "code": code}
        where = environment(threads(execution), accelerator(execution), execution.devices)
        run.begin(record, as_yaml(recipe), where)
        store = StepStore.beside(root, execution)
        work = Work(recipe, run, data, store, execution, RunMonitor(run, monitor), code, fresh)
        return run, work.finish()


def _refuse_early(recipe: Recipe) -> None:
    """Refuses early what export and measurement would refuse only after hours of training."""
    targets = [load_target(name) for name in recipe.export]
    for target in targets:
        exporters.get(target.format)().check(target)
    for device in map(load_device, recipe.measure.devices):
        runner_for(device)
        for target in targets:
            _refuse_unmeasured(target, device)
    for step in recipe.steps:
        if device_name := getattr(step.method, "device", None):
            usable = usable_device(device_name)
            if timed := getattr(step.method, "timed_target", None):
                runtime_of(usable, load_measurable(timed))


def _refuse_unmeasured(target: Target, device: Device) -> None:
    """Refuses a target whose files a device cannot run: it would be judged without ever being measured there."""
    try:
        device.runtime_name(*target.runtimes)
    except NotConfigured as error:
        raise NotConfigured(
            f"Export target {target.name!r} cannot be measured: {error} Or leave it out of `export:`, and write it, "
            f"proven but not measured, for the finished run: edgecr export RUN --target {target.name}"
        ) from error


@dataclass(frozen=True)
class Work:
    """One recipe on its way through the stages."""

    recipe: Recipe
    run: Run
    data: Dataset
    store: StepStore
    execution: Execution
    monitor: Monitor
    code: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """The hashes of the files with the user's own code, by the model that it builds."""
    fresh: bool = False
    """Do the steps again even if the store has them."""

    def finish(self) -> Result:
        """Does what is left to do and judges the outcome."""
        for index in range(len(self.recipe.steps)):
            self.step(index)
        for role in ROLES:
            self.role(role)
        targets = self.export()
        for target, device in itertools.product(targets, self.recipe.measure.devices):
            measured = measure(self.run, device, target, self.recipe.measure.batch, self.monitor)
            if measured.error:
                where = name_of(target if len(self.recipe.export) > 1 else "", measured.device.name)
                self.monitor.warn(f"{where}: {measured.error}")
        for target, suite in itertools.product(targets, self.recipe.robustness.suites):
            for board in Asked.of(self.run).answering(target):
                self.answers(target, suite, board)
        return self.judge()

    def answers(self, target: str, suite: str, board: Device | None) -> None:
        """Asks this machine or a board about images; a board that fails has its error as its result."""
        images, data = self.recipe.robustness.images, HeldOutData.of(self.data)
        device = usable_device(self._declared(board.name)) if board else None
        try:
            robustness(self.run, suite, target, data, images, self.monitor, device)
        except DeviceFailed as error:
            if board is None:
                raise
            self.monitor.warn(f"{name_of(target if len(self.recipe.export) > 1 else '', board.name)}: {error}")

    def _declared(self, name: str) -> str:
        """The way in which the recipe names a device: by its name, or by its file."""
        return next(given for given in self.recipe.measure.devices if load_device(given).name == name)

    def export(self) -> list[str]:
        """Exports both roles for every target, and returns the names of the targets that did not break.

        The error of the others is their result; where every target breaks, it ends the run.
        """
        names = [load_target(name).name for name in self.recipe.export]
        errors: dict[tuple[str, str], Exception] = {}
        for (given, name), role in itertools.product(zip(self.recipe.export, names), ROLES):
            error = try_role(self.run, role, given, ProofData.of(self.data), self.execution, self.monitor)
            if error is not None:
                errors[name, role] = error
        whole = [name for name in names if name not in {target for target, _ in errors}]
        if not whole:
            raise next(iter(errors.values()))
        for place, error in errors.items():
            self.monitor.warn(export_failed(*place, failure_words(error)))
        return whole

    def judge(self) -> Result:
        """Writes the report, unless it already tells of exactly these stages."""
        key = identity(
            self.store.maker["source"],
            *(sha256(file) for file in sorted(self.run.folder.glob("stages/*.json")) if file.stem != "report"),
        )
        if self.run.finished("report", key):
            self.monitor.say("Already finished; nothing to do. --fresh starts it anew.")
            return judged(self.run)  # what a written report says is never believed
        path, result = self.run.folder / "report.json", report(self.run)
        self.run.finish("report", key, [path, path.with_suffix(".md"), path.with_suffix(".html")])
        return result

    @property
    def classes(self) -> int:
        """The number of classes, which the model and the data must agree on; the model's own without labels."""
        found, asked = len(self.data.classes), self.recipe.model.classes
        if asked is not None and not self.data.labelled:
            return asked
        if asked is not None and asked != found:
            raise RequestError(
                f"model.classes is {asked}, but the data has {found} classes "
                f"({', '.join(self.data.classes[:5])}…). Leave model.classes out, or change the data."
            )
        return found

    def origin(self) -> dict[str, Any]:
        """Everything that the model before the first step depends on."""
        return {
            "model": self.recipe.model.model_dump(mode="json", exclude_defaults=True, exclude={"weights"}),
            "weights": input_hashes(self.recipe.model),
            "classes": self.classes,
            "size": list(self.data.preprocessing.size),
            "seed": self.recipe.seed,
            "code": self.code,
        }

    def before(self, index: int) -> Any:
        """The identity of the model that a step starts with: the tensors themselves, once there are any."""
        if index == 0:
            return self.origin()
        folder = self.step_folder(index - 1) / "subject"
        return {file.name: sha256(file) for file in sorted(folder.iterdir())}

    def inputs(self, index: int) -> dict[str, Any]:
        """Everything that a step reads, as plain values: its key in the step store."""
        step, preprocessing = self.recipe.steps[index], self.data.preprocessing
        return {
            "step": step.plain(),
            "before": self.before(index),
            "seed": [self.recipe.seed, index],
            "data": self.data.seen_by_steps,
            "preprocessing": [list(preprocessing.mean), list(preprocessing.std), list(preprocessing.size)],
            "augmentation": self.data.augmentation,
            "files": input_hashes(step),
            "code": self.code,
            "device": self._device(step.method),
            "target": self._target(step.method),
            "baseline": self.before(self.recipe.baseline_steps) if reads_baseline(step) else None,
            "snapshot": self._snapshot(index),
        }

    def _snapshot(self, index: int) -> str | None:
        """The hash of the earlier state that a step goes back to, if it does."""
        update = self.recipe.steps[index].method.goes_back_to
        file = None if update is None else self.snapshots(index).get(update)
        return sha256(file) if file else None

    def snapshots(self, index: int) -> dict[int, Path]:
        """The states that trainings before a step kept, by update; of several with one number the last one's."""
        kept = dict[int, Path]()
        for earlier, step in enumerate(self.recipe.steps[:index]):
            folder = self.step_folder(earlier) / SNAPSHOTS
            asked = {update: folder / f"{update}.safetensors" for update in getattr(step.method, "snapshots", ())}
            kept |= {update: file for update, file in asked.items() if file.is_file()}
        return kept

    def _device(self, method: Method) -> Any:
        """The declaration of the device that a step plans for, if it does."""
        name = getattr(method, "device", None)
        return load_device(name).plain() if name else None

    def _target(self, method: Method) -> Any:
        """The declaration of the export target whose files a step plans for on that device, if it does."""
        name = getattr(method, "target", None) if getattr(method, "device", None) else None
        return load_target(name).plain() if name else None

    def step_folder(self, index: int) -> Path:
        """The folder of a step's outputs in the run."""
        return self.run.step(index, self.recipe.steps[index].name)

    def step(self, index: int) -> None:
        """Runs one step, unless the run or the store has it."""
        step, inputs = self.recipe.steps[index], self.inputs(index)
        name, key = f"step-{index:02d}-{step.name}", identity(inputs)
        title = f"Step {index + 1} of {len(self.recipe.steps)}: {step.name}"
        if self.run.finished(name, key):
            self._tell_other_maker(title, read_json(self.run.stage(name)))
            return
        self._refuse_own_run(step.method)
        stored = self.store.step(inputs)
        with stored.held(lambda: self.monitor.say(f"{title} is being made by another run; waiting for it")):
            if self.fresh:
                stored.clear()
            record = stored.finished()
            if record is None:
                stored.begin()
                record = self._make(index, title, stored)
            elif record["run"] != self.run.folder.name:
                self.monitor.say(f"{title} is taken from {record['run']}, which did the same step on this machine")
            stored.hand_over(self.step_folder(index))
        facts = {"borrowed_from": record["run"]} if record["run"] != self.run.folder.name else {}
        facts |= {"seconds": record["seconds"], "maker": record["maker"]}
        self.run.finish(name, key, [self.step_folder(index)], **facts)

    def _make(self, index: int, title: str, stored: Step) -> dict[str, Any]:
        """Does the work of a step in its folder of the store; a model that cannot be built is refused before."""
        before = self.subject(index)
        self.monitor.say(title + self._why_anew(stored))
        seed, latencies = self.recipe.seed * 1000 + index, AgentLatencies(self.monitor)
        context = StepContext(
            LearningData.of(self.data),
            seed,
            stored.folder,
            self.execution,
            self.monitor,
            latencies,
            self.baseline,
            self.snapshots(index),
        )
        start = time.monotonic()
        self.recipe.steps[index].method.apply(before, context).save(stored.folder / "subject")
        seconds = round(time.monotonic() - start, 1)
        return stored.finish(run=self.run.folder.name, seconds=seconds)

    def _why_anew(self, stored: Step) -> str:
        """The differences that keep the most similar step of the store from being reused; empty if there is none."""
        near = None if self.fresh else nearest(self.store.root, stored.inputs, stored.maker)
        return f", made anew: {near[0]} did it with other {', '.join(near[1])}" if near else ""

    def _tell_other_maker(self, title: str, stage: dict[str, Any]) -> None:
        """Warns of a step that this run finished under another environment, and so would not share with others."""
        made, now = stage.get("maker", {}), self.store.maker
        if other := sorted(name for name in now if made.get(name) != now[name]):
            self.monitor.warn(f"{title} was finished with other {', '.join(other)}; it is kept. --fresh makes it anew.")

    def _refuse_own_run(self, method: Method) -> None:
        """A run cannot read what it is about to make."""
        for path in paths_in(method.model_dump()):
            if self.run.folder.resolve().is_relative_to(path.resolve()):
                raise RequestError(
                    f"The teacher's run {path} is the run being made. Leave teacher out: its own model teaches then."
                )

    def subject(self, steps: int) -> Subject:
        """The subject after that many steps."""
        code = self.execution.allow_code
        if steps:
            folder = self.run.step(steps - 1, self.recipe.steps[steps - 1].name)
            return Subject.load(folder / "subject", allow_code=code)
        size = self.data.preprocessing.size
        return Subject.create(self.recipe.model, self.classes, size, self.recipe.seed, allow_code=code)

    def baseline(self) -> Subject:
        """The model before the first step that compresses."""
        return self.subject(self.recipe.baseline_steps)

    def role(self, role: str) -> None:
        """Sets the baseline or the candidate aside: what every later stage compares."""
        steps = self.recipe.baseline_steps if role == "baseline" else len(self.recipe.steps)
        key = identity("counted", self.before(steps))
        if not self.run.finished(role, key):
            set_aside(self.run, role, key, self.subject(steps))
