"""Asks the exported files of a run about clean and corrupted test images."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgecr.core.errors import DeviceFailed, FileProblem
from edgecr.core.files import storage_errors
from edgecr.core.progress import Monitor
from edgecr.data.views import HeldOutData
from edgecr.robustness.conditions import Suite
from edgecr.robustness.evaluate import evaluate, question
from edgecr.robustness.examples import pick_examples, save_examples
from edgecr.robustness.result import QUESTION_FILE, RobustnessResult, question_key
from edgecr.robustness.suites import suites
from edgecr.run import Run
from edgecr.runners.device import Device
from edgecr.stages.answerers import Answerers, answerers
from edgecr.stages.asked import Asked, answers_key, board_name, robustness_stage
from edgecr.stages.export import Exports, exports
from edgecr.stages.place import ResultPlace, place_of


def robustness(
    run: Run,
    suite_name: str,
    target: str,
    data: HeldOutData,
    images: int | None,
    monitor: Monitor,
    device: Device | None = None,
) -> RobustnessResult:
    """Shows both exported files the same corrupted test images, here or on a board.

    Only with the recipe's suite, target and number of images, and on no device but a board of the recipe, is the
    result the run's; any other is kept beside. A board that fails has the error as its result, which is raised, too.
    """
    shown = _Shown.of(run, suite_name, target, data, images, device)
    place = shown.place(monitor)
    if known := shown.finished(place):
        return known
    try:
        with answerers(shown.files.artifacts, device, monitor) as asked:
            answered = shown.answers(asked, place.path, monitor)
            key = answers_key(answered.key, images)
            if not run.finished(place.stage, key):
                examples = pick_examples(answered, shown.suite, data.test, data.classes)
                save_examples(place.path / "examples.json", examples)
                asked.save(place.path)
                run.finish(place.stage, key, [place.path])
    except DeviceFailed as error:
        told = f"{error}{shown.kept(place.path)}"
        run.fail(place.stage, answers_key(shown.asked_of, images), told)
        raise DeviceFailed(told) from error
    return answered


@dataclass(frozen=True)
class _Shown:
    """A run's exported files, and the images that they are shown."""

    run: Run
    suite: Suite
    target: str
    data: HeldOutData
    images: int | None
    device: Device | None
    asked: Asked
    files: Exports
    chosen: np.ndarray

    @classmethod
    def of(
        cls, run: Run, suite: str, target: str, data: HeldOutData, images: int | None, device: Device | None
    ) -> _Shown:
        """The question, with the run's own seed."""
        found, asked, files = suites.get(suite), Asked.of(run), exports(run, target)
        chosen = chosen_images(data, images, asked.recipe.seed)
        return cls(run, found, target, data, images, device, asked, files, chosen)

    @property
    def asked_of(self) -> str:
        """The files and the device, for keys."""
        named = [self.files.hashes, self.device.plain()] if self.device else self.files.hashes
        return json.dumps(named)

    @property
    def own(self) -> bool:
        """True where the recipe asks for exactly this."""
        recipe = self.asked.recipe.robustness
        if self.target not in self.asked.names or self.suite.name not in recipe.suites or self.images != recipe.images:
            return False
        wanted = self.device.plain() if self.device else None
        return wanted in [each.plain() if each else None for each in self.asked.answering(self.target)]

    def place(self, monitor: Monitor) -> ResultPlace:
        """The place of the result, without files there that nobody vouches for."""
        board = board_name(self.device) if self.own else ""
        stage = robustness_stage(self.suite.name, self.target, board)
        folder = self.run.robustness(self.suite.name, self.target, board)
        key = answers_key(self.asked_of, self.images)
        place = place_of(self.run, stage, folder, key, self.own, self.files, monitor)
        if (place.path / QUESTION_FILE).exists() and not self.run.stage(place.stage).exists():
            monitor.warn(f"{place.path} has answers that no record vouches for; they are made again.")
            with storage_errors(place.path):
                shutil.rmtree(place.path)
        for file in self.run.damaged(place.stage):
            monitor.warn(f"{file} was changed after it was written, and is made again.")
            with storage_errors(file):
                file.unlink(missing_ok=True)
        return place

    def finished(self, place: ResultPlace) -> RobustnessResult | None:
        """The answers that a board gave before: it is not asked again, and need not be there."""
        if self.device is None or not (place.path / QUESTION_FILE).exists():
            return None
        try:
            found = RobustnessResult.load(place.path)
        except FileProblem:
            return None
        same = found.answered_by.get("device") == self.device.plain() and found.key == self.key(found.answered_by)
        return found if same and self.run.finished(place.stage, answers_key(found.key, self.images)) else None

    def kept(self, folder: Path) -> str:
        """The remark on what was answered before a failure; empty if nothing was."""
        every = self.suite.conditions
        done = sum((folder / f"{condition}.npz").is_file() for condition in every)
        return (
            f" The answers under {done} of {len(every)} conditions are kept; the same command goes on." if done else ""
        )

    def key(self, answered_by: Mapping[str, Any]) -> str:
        """The key of the question to whoever answers."""
        labels = np.asarray(self.data.test.labels)[self.chosen]
        return question_key(
            question(
                self.suite,
                self.data.task,
                self.chosen,
                labels,
                self.asked.recipe.seed,
                self.files.hashes,
                self.data.labelled,
                answered_by,
            )
        )

    def answers(self, asked: Answerers, folder: Path, monitor: Monitor) -> RobustnessResult:
        """Asks about every image, except under conditions that the folder has answers for."""
        return evaluate(
            asked.predictors,
            self.suite,
            self.data.test,
            folder,
            indices=self.chosen,
            seed=self.asked.recipe.seed,
            identities=self.files.hashes,
            monitor=monitor,
            task=self.data.task,
            labelled=self.data.labelled,
            answered_by=asked.answered_by,
        )


def chosen_images(data: HeldOutData, images: int | None, seed: int) -> np.ndarray:
    """Rising indices of so many test images, drawn by the seed; all of them where there are not more."""
    every = np.arange(len(data.test))
    if images is None or images >= len(every):
        return every
    return np.sort(np.random.default_rng(seed).choice(len(every), images, replace=False))
