"""Exported files and runs, measured on a device or asked about corrupted images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecr.api.runs import RUNS, AnyPath, chosen_run, progress

if TYPE_CHECKING:
    from edgecr.api.images import Data, Three
    from edgecr.core.progress import Monitor
    from edgecr.exporters import Artifact
    from edgecr.report.result import LatencyRow
    from edgecr.robustness.result import RobustnessResult
    from edgecr.run import Run
    from edgecr.runners.base import Measurement, MeasurePlan, Runner
    from edgecr.runners.device import Device
    from edgecr.runners.manner import Manner


@dataclass(frozen=True)
class Profile:
    """The raw samples of a measurement, and the figures derived from them."""

    measurement: Measurement

    @property
    def rows(self) -> list[LatencyRow]:
        """One row for each batch size; a figure that the samples cannot support is None, with the reason beside it."""
        from edgecr.report.latency_rows import latency_rows

        return latency_rows(self.measurement)


def profile(
    what: AnyPath | Run | Sequence[AnyPath] | None = None,
    *,
    device: str = "cpu",
    batch: int | Sequence[int] | None = None,
    runtime: str | None = None,
    launches: int | None = None,
    rounds: int | None = None,
    target: str | None = None,
    runs: AnyPath = RUNS,
    quiet: bool = False,
    manner: Manner | None = None,
) -> Profile:
    """Measures an exported file, two of them (baseline first) or a run on a device, as ``edgecr profile`` does.

    The batch sizes are 1 for files and the recipe's own for a run when left out. A device that fails is a
    DeviceFailed. ``manner`` (edgecr.runners.manner) is how long it takes, with which streams, and whether by force.
    """
    found = measured(what, [device], batch, runtime, launches, rounds, target, runs, progress(quiet), manner)
    measurement = found[device]
    raise_failure(measurement)
    return Profile(measurement)


def measured(
    what: AnyPath | Run | Sequence[AnyPath] | None,
    devices: Sequence[str],
    batch: int | Sequence[int] | None,
    runtime: str | None,
    launches: int | None,
    rounds: int | None,
    target: str | None,
    runs: AnyPath,
    monitor: Monitor,
    manner: Manner | None = None,
) -> dict[str, Measurement]:
    """The measurement from each device, by the name it was asked for; a failure of a device is its ``error``.

    SomeRaised where one of several raised an exception; it has the measurements of the others.
    """
    from edgecr.runners.base import load_device, runner_for
    from edgecr.runners.manner import USUAL

    # a device that nobody configured is refused before anything else
    runners = {name: runner_for(load_device(name)) for name in dict.fromkeys(devices)}
    batches = (batch,) if isinstance(batch, int) else tuple(dict.fromkeys(batch)) if batch is not None else None
    wished = manner or USUAL
    plans = {
        name: plan
        for name, runner in runners.items()
        if (plan := files_plan(what, runner.device, batches, runtime, launches, rounds, wished))
    }

    def files(name: str, monitor: Monitor) -> Measurement:
        return runners[name].measure(plans[name], monitor)

    if plans:
        return _on_each(runners, files, monitor)

    from edgecr.stages.asked import Asked
    from edgecr.stages.measure import measure

    chosen = chosen_run(_one_run(_listed(what)), runs)
    wanted = _target_name(target) or Asked.of(chosen).names[0]

    def one(name: str, monitor: Monitor) -> Measurement:
        return measure(chosen, name, wanted, batches, monitor, launches=launches, rounds=rounds, manner=wished)

    with chosen.writing():
        return _on_each(runners, one, monitor)


def files_plan(
    what: AnyPath | Run | Sequence[AnyPath] | None,
    device: Device,
    batches: Sequence[int] | None,
    runtime: str | None,
    launches: int | None,
    rounds: int | None,
    manner: Manner,
) -> MeasurePlan | None:
    """The plan for one exported file or two (baseline first); None where it is about a run."""
    from edgecr.runners.base import MeasurePlan
    from edgecr.stages.engine_proof import proofs
    from edgecr.stages.files import shared_runtime

    given = _listed(what)
    if not given or not _is_file(given[0]):
        return None
    artifacts = _artifacts(given)
    models = {role: artifact.path for role, artifact in artifacts.items()}
    beside = {role: artifact.beside for role, artifact in artifacts.items()}
    where = runtime or shared_runtime(artifacts, device)
    return MeasurePlan.of(
        models,
        batches or (1,),
        where,
        launches=launches,
        rounds=rounds,
        beside=beside,
        proofs=proofs(artifacts),
        manner=manner,
    )


def _on_each(
    runners: Mapping[str, Runner], one: Callable[[str, Monitor], Measurement], monitor: Monitor
) -> dict[str, Measurement]:
    """One measurement for each device: boards at once, this machine's devices one after the other."""
    from edgecr.runners.several import at_once, settled, without_exceptions

    here = [name for name, runner in runners.items() if runner.on_this_machine]
    groups = {name: [name] for name in runners if name not in here} | ({here[0]: here} if here else {})

    def in_turn(names: Sequence[str], monitor: Monitor) -> dict[str, Measurement | Exception]:
        return {name: settled(partial(one, name, monitor)) for name in names}

    found = without_exceptions(at_once({name: partial(in_turn, names) for name, names in groups.items()}, monitor))
    results = {name: each for group in found.values() for name, each in group.items()}
    return without_exceptions({name: results[name] for name in runners})


def raise_failure(*measurements: Measurement) -> None:
    """Raises DeviceFailed for measurements that a device broke off."""
    from edgecr.core.errors import DeviceFailed

    failed = [f"{one.device.name}: {one.error}" for one in measurements if one.error]
    if failed:
        raise DeviceFailed("\n".join(failed))


def robustness(
    what: AnyPath | Run | Sequence[AnyPath] | None = None,
    *,
    data: Data | None = None,
    suite: str = "noise5",
    images: int | None = None,
    mean: Three | None = None,
    std: Three | None = None,
    target: str | None = None,
    seed: int = 0,
    runs: AnyPath = RUNS,
    quiet: bool = False,
) -> RobustnessResult:
    """Accuracy on clean and corrupted images of an exported file, of two (baseline first) or of a run's files.

    A run brings its own test images and seed. Files need ``data``: a folder, a mapping such as a recipe's ``data:``,
    or ``(images, labels)`` of 8-bit pixels (N, H, W, 3); ``mean`` and ``std`` only where no manifest records them.
    """
    from edgecr.core.errors import RequestError

    monitor, given = progress(quiet), _listed(what)
    if given and _is_file(given[0]):
        if data is None:
            raise RequestError("A file brings no images: give data=FOLDER, or data=(images, labels).")
        return _robustness_of_files(_artifacts(given), data, suite, images, mean, std, seed, monitor)
    if data is not None:
        raise RequestError("A run brings its own test images; data is for exported files.")
    return robustness_of_run(chosen_run(_one_run(given), runs), suite, target, images, monitor)


def robustness_of_run(
    run: Run, suite: str, target: str | None, images: int | None, monitor: Monitor, device: Device | None = None
) -> RobustnessResult:
    """The answers of a run's exported files; under other options than the recipe's they are kept apart."""
    from edgecr.data.views import HeldOutData
    from edgecr.stages.asked import Asked
    from edgecr.stages.reload import load_again
    from edgecr.stages.robustness import robustness as evaluate

    asked = Asked.of(run)
    name, wanted = _target_name(target) or asked.names[0], images or asked.recipe.robustness.images
    data = HeldOutData.of(load_again(run, monitor))
    with run.writing():
        return evaluate(run, suite, name, data, wanted, monitor, device)


def _robustness_of_files(
    artifacts: dict[str, Artifact],
    data: Data,
    suite: str,
    images: int | None,
    mean: Three | None,
    std: Three | None,
    seed: int,
    monitor: Monitor,
) -> RobustnessResult:
    from edgecr.api.images import held_out
    from edgecr.predictors import preprocessing_of
    from edgecr.robustness.suites import suites
    from edgecr.stages.file_answers import answers_of

    suites.get(suite)  # an unknown suite is refused before images are read
    described = {role: _described(artifact, mean, std) for role, artifact in artifacts.items()}
    shown = held_out(data, preprocessing_of(next(iter(described.values()))), monitor)
    return answers_of(described, suite, shown, images, monitor, seed=seed)


def _described(artifact: Artifact, mean: Three | None, std: Three | None) -> Artifact:
    """A file that was exported elsewhere, with the preprocessing that the caller states."""
    from edgecr.core.errors import RequestError
    from edgecr.data.scale import as_keywords, checked_scale

    mean, std = checked_scale(mean, std, as_keywords)
    if artifact.preprocessing or mean is None or std is None:
        return artifact
    height, width = artifact.input["shape"][2:4]
    if artifact.input.get("layout") != "NCHW" or None in (height, width):
        raise RequestError(f"{artifact.path} does not take NCHW images of one size; export it so, or write a manifest.")
    stated: dict[str, Any] = {"mean": list(mean), "std": list(std), "size": [height, width], "embedded": False}
    return replace(artifact, preprocessing=stated)


def _listed(what: AnyPath | Run | Sequence[AnyPath] | None) -> list[AnyPath | Run]:
    if what is None:
        return []
    return list(what) if isinstance(what, list | tuple) else [what]  # type: ignore[list-item]


def _is_file(what: AnyPath | Run) -> bool:
    from edgecr.run import Run

    return not isinstance(what, Run) and Path(what).is_file()


def _one_run(given: Sequence[AnyPath | Run]) -> AnyPath | Run | None:
    return given[0] if given else None


def _artifacts(given: Sequence[AnyPath | Run]) -> dict[str, Artifact]:
    """Exported files by role."""
    from edgecr.run import Run
    from edgecr.stages.files import named_files

    return named_files([Path(each) for each in given if not isinstance(each, Run)])


def _target_name(target: str | None) -> str | None:
    """The name that a target's declaration gives itself."""
    from edgecr.exporters import load_target

    return load_target(target).name if target else None
