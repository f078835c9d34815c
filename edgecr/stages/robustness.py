"""Asks the exported files of a run about clean and corrupted test images."""

from __future__ import annotations

import json
import shutil

import numpy as np

from edgecr.core.files import storage_errors
from edgecr.core.progress import Monitor
from edgecr.data.views import HeldOutData
from edgecr.predictors import predictor_for
from edgecr.robustness.evaluate import evaluate
from edgecr.robustness.examples import pick_examples, save_examples
from edgecr.robustness.result import QUESTION_FILE, RobustnessResult
from edgecr.robustness.suites import suites
from edgecr.run import Run
from edgecr.stages.asked import Asked, answers_key, robustness_stage
from edgecr.stages.export import exports
from edgecr.stages.place import place_of


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
    own = images == recipe.images and target in asked.names and suite.name in recipe.suites
    stage, folder = robustness_stage(suite.name, target), run.robustness(suite.name, target)
    place = place_of(run, stage, folder, answers_key(json.dumps(files.hashes), images), own, files, monitor)
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
