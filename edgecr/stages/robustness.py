"""Asks the exported files of a run about clean and corrupted test images."""

from __future__ import annotations

import json
import shutil

import numpy as np

from edgecr.core.errors import RequestError
from edgecr.core.files import storage_errors
from edgecr.core.progress import Monitor
from edgecr.data.views import HeldOutData
from edgecr.exporters import Artifact, runtimes_of
from edgecr.predictors import Predictor, predictor_for
from edgecr.robustness.evaluate import evaluate
from edgecr.robustness.examples import pick_examples, save_examples
from edgecr.robustness.result import QUESTION_FILE, RobustnessResult
from edgecr.robustness.suites import suites
from edgecr.run import Run
from edgecr.runners.base import runner_for
from edgecr.runners.device import Device
from edgecr.stages.asked import Asked, answers_key, robustness_stage
from edgecr.stages.export import exports
from edgecr.stages.place import place_of


def robustness(
    run: Run,
    suite_name: str,
    target: str,
    data: HeldOutData,
    images: int | None,
    monitor: Monitor,
    device: Device | None = None,
) -> RobustnessResult:
    """Shows both exported files the same corrupted test images.

    Only with the recipe's suite, target and number of images, and on no device in particular, is the result the run's;
    any other is kept beside.
    """
    suite, asked, files = suites.get(suite_name), Asked.of(run), exports(run, target)
    recipe, seed = asked.recipe.robustness, asked.recipe.seed
    predictors = {role: predictor_on(artifact, device) for role, artifact in files.artifacts.items()}
    chosen = chosen_images(data, images, seed)
    own = images == recipe.images and target in asked.names and suite.name in recipe.suites and device is None
    stage, folder = robustness_stage(suite.name, target), run.robustness(suite.name, target)
    asked_of = json.dumps([files.hashes, device.plain()]) if device else json.dumps(files.hashes)
    place = place_of(run, stage, folder, answers_key(asked_of, images), own, files, monitor)
    if (place.path / QUESTION_FILE).exists() and not run.stage(place.stage).exists():
        monitor.warn(f"{place.path} has answers that no record vouches for; they are made again.")
        with storage_errors(place.path):
            shutil.rmtree(place.path)
    for file in run.damaged(place.stage):
        monitor.warn(f"{file} was changed after it was written, and is made again.")
        with storage_errors(file):
            file.unlink(missing_ok=True)
    answered = evaluate(
        predictors,
        suite,
        data.test,
        place.path,
        indices=chosen,
        seed=seed,
        identities=files.hashes,
        monitor=monitor,
        task=data.task,
        labelled=data.labelled,
    )
    key = answers_key(answered.key, images)
    if not run.finished(place.stage, key):
        save_examples(place.path / "examples.json", pick_examples(answered, suite, data.test, data.classes))
        run.finish(place.stage, key, [place.path])
    return answered


def chosen_images(data: HeldOutData, images: int | None, seed: int) -> np.ndarray:
    """Rising indices of so many test images, drawn by the seed; all of them where there are not more."""
    every = np.arange(len(data.test))
    if images is None or images >= len(every):
        return every
    return np.sort(np.random.default_rng(seed).choice(len(every), images, replace=False))


def predictor_on(artifact: Artifact, device: Device | None) -> Predictor:
    """The predictor for an artifact, on this machine: by default, or with the runtime and settings of a device."""
    if device is None:
        return predictor_for(artifact)
    if not runner_for(device).on_this_machine:
        raise RequestError(
            f"Device {device.name!r} is a board, and robustness can only be evaluated on this machine so far. "
            "Leave --device out, or name a device with `transport: {kind: local}`."
        )
    runtime = device.runtime_name(*runtimes_of(artifact.format))
    return predictor_for(artifact, runtime=runtime, settings=device.runtime_options(runtime))
