"""Functions that the studies of training share: their images, cells that are kept when finished, mean and spread.

A study is interrupted and goes on: each cell's figures are one JSON file, and a training within a cell resumes
from its own checkpoint. The folder's name holds the fingerprint of settings, images and weights, so that figures
of another study are never taken for this one's.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from _common import arguments
from torch import nn

from edgecr.core.files import fingerprint, read_json, write_json
from edgecr.core.progress import Monitor
from edgecr.data.base import Dataset, ImageSet
from edgecr.data.folder import Folder
from edgecr.data.sets import MemorySet
from edgecr.data.splits import stratified
from edgecr.data.views import LearningData
from edgecr.latency_builder.device_latencies import AgentLatencies
from edgecr.methods.base import methods
from edgecr.predictors.torch_predictor import TorchPredictor
from edgecr.robustness.evaluate import evaluate
from edgecr.robustness.suites import suites
from edgecr.subject import Subject
from edgecr.training.checkpoint import discard
from edgecr.training.context import StepContext

SIDE = 32
DEVICE = "cpu"
"""The device whose latencies plans are made for."""


def study_arguments(purpose: str | None) -> argparse.ArgumentParser:
    """The options of every study: those of a benchmark, and where finished cells stay."""
    parser = arguments(purpose, data=True)
    parser.add_argument("--out", type=Path, metavar="DIR", help="finished cells stay here; the same command goes on")
    return parser


class Cells:
    """The cells of a study: what is computed already is read."""

    def __init__(self, out: Path | None, name: str, settings: Any) -> None:
        root = out or Path(tempfile.mkdtemp(prefix=f"edgecr-{name}-"))
        self.folder = root / f"{name}-{fingerprint(settings)[:10]}"
        print(f"cells: {self.folder}", flush=True)

    def get(self, name: str, make: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
        """The figures of a cell; ``make`` computes them and may leave files in the cell's own folder."""
        path = self.folder / f"{name}.json"
        if not path.is_file():
            found = make(self.folder / name)
            write_json(path, found)
            print(f"{name}: {_told(found)}", flush=True)
        figures: dict[str, Any] = read_json(path)
        return figures


@dataclass(frozen=True)
class NetworkCells:
    """One network's cells in a study, and the steps that studies of pruned networks share."""

    cells: Cells
    name: str
    """The network's name in the study."""
    data: Dataset
    """The images that it is adapted, pruned and tested on."""

    def cell(self, make: Callable[[Path], dict[str, Any]], *names: object) -> dict[str, Any]:
        """A cell of this network."""
        return self.cells.get(self._name(*names), make)

    def path(self, *names: object) -> Path:
        """The folder of a cell's files."""
        return self.cells.folder / self._name(*names)

    def _name(self, *names: object) -> str:
        return "-".join(map(str, (self.name, *names))).replace(" ", "_")

    def pruned(self, dense: Subject, options: Mapping[str, Any], seed: int, folder: Path) -> Subject:
        """Prunes a network by the product's own method; latencies are those of one image."""
        for_latency, aligned = "latency" in options.get("budget", {}), options.get("align", "auto") == "auto"
        keys = {"latency_batch": 1} if for_latency else {}
        step = methods.get("prune").parse({**options, **keys, **({"device": DEVICE} if for_latency or aligned else {})})
        latencies = AgentLatencies(Monitor(), self.cells.folder / f"{self.name}-latency")
        folder.mkdir(parents=True, exist_ok=True)
        return step.apply(dense, StepContext(LearningData.of(self.data), seed, folder, latencies=latencies))

    def trained(
        self, subject: Subject, data: Dataset, epochs: int, lr: float, seed: int, folder: Path, batch: int = 64
    ) -> Subject:
        """Trains a network in place by the product's own method."""
        step = methods.get("train").parse(
            {"epochs": epochs, "lr": lr, "batch": batch, "weight_decay": 5e-4, "precision": "auto",
             "augment": "crop-flip", "validate_every": epochs}
        )  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        subject = step.apply(subject, StepContext(LearningData.of(data), seed, folder))
        discard(folder)
        return subject


def _told(figures: dict[str, Any]) -> str:
    return ", ".join(f"{k} {v:.4g}" for k, v in figures.items() if isinstance(v, int | float))


def cifar10(root: Path, train: int | None = None, test: int | None = None, side: int = SIDE) -> Dataset:
    """CIFAR-10 from folders of images; of the training and test images all, or the same share of each class."""
    return fewer(Folder(name="folder", root=root, size=side).load(), train, test)


def fewer(data: Dataset, train: int | None, test: int | None = None) -> Dataset:
    """The same data with fewer training and test images."""
    known = fingerprint([data.fingerprint, train, test])
    learning, testing = part(data.train, train), part(data.test, test)
    seen = fingerprint([data.seen_by_steps, train])
    return replace(data, train=learning, test=testing, fingerprint=known, seen_by_steps=seen)


def part(images: ImageSet, count: int | None) -> ImageSet:
    """So many images of a set, the same share of each class, always the same ones."""
    if count is None or count >= len(images):
        return images
    chosen = stratified(images.labels, (count / len(images),), 0)[1]
    return MemorySet(images.numpy(chosen), images.labels[chosen])


def noise5(module: nn.Module, data: Dataset, images: int, seed: int = 0) -> float:
    """The mean accuracy under the five disturbances, on some test images that the seed chooses."""
    chosen = np.sort(np.random.default_rng(seed).choice(len(data.test), min(images, len(data.test)), replace=False))
    predictor = TorchPredictor(module, data.preprocessing)
    with tempfile.TemporaryDirectory() as folder:
        found = evaluate({"it": predictor}, suites.get("noise5"), data.test, Path(folder), indices=chosen, seed=seed)
    return found.mean_accuracy("it").value


def mean_and_spread(values: Sequence[float], digits: int = 4) -> str:
    """Mean, and the standard deviation between seeds where there are several."""
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"
