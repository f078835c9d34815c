"""Tickets: accuracy of networks whose weights are never trained, only chosen, beside the same network trained.

A Conv4 is trained on CIFAR-10 for some epochs; an edge-popup ticket (half of the signed constants of a random Conv4)
and a biprop ticket (signs of half of normally distributed weights, and one scale a tensor) learn what to keep for
as many epochs of the same images. Goals: both stay within ten points of the trained network. ``--quick`` has fewer
images and epochs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from _common import Goal, finish, table
from _study import Cells, NetworkCells, cifar10, noise5, study_arguments

from edgecr.data.views import LearningData
from edgecr.methods.base import methods
from edgecr.models import architecture
from edgecr.predictors.torch_predictor import TorchPredictor
from edgecr.robustness.evaluate import evaluate
from edgecr.robustness.suites import suites
from edgecr.subject import Subject
from edgecr.training.context import StepContext

TRAINED, EDGE_POPUP, BIPROP = "trained", "edge_popup", "biprop"
SPARSITY = 0.5
WITHIN = 10.0
"""Points that a ticket may lose."""


@dataclass(frozen=True)
class Settings:
    """The whole study."""

    images: int = 20_000
    test: int | None = None
    disturbed: int = 1_000
    epochs: int = 10
    batch: int = 32


QUICK = Settings(images=2_500, test=1_000, disturbed=200, epochs=5)


@dataclass(frozen=True)
class Study(NetworkCells):
    """One trained network and its tickets."""

    settings: Settings

    def step(self, arm: str) -> tuple[str, Mapping[str, Any]]:
        """The method of an arm and its options."""
        alike = {"epochs": self.settings.epochs, "batch": self.settings.batch, "augment": "crop-flip"}
        if arm == TRAINED:
            return "train", {**alike, "lr": 0.01, "weight_decay": 1e-4}
        init = "signed_constant" if arm == EDGE_POPUP else "kaiming_normal"
        return "ticket", {
            **alike, "algorithm": arm, "init": init, "sparsity": SPARSITY, "scale_fan": "keep", "lr": 0.01,
            "weight_decay": 1e-4,
        }  # fmt: skip

    def answers(self, arm: str, folder: Path) -> dict[str, Any]:
        """The accuracy of one arm."""
        subject = Subject.create(architecture({"arch": self.name}), len(self.data.classes), (32, 32), seed=0)
        name, options = self.step(arm)
        folder.mkdir(parents=True, exist_ok=True)
        context = StepContext(LearningData.of(self.data), 0, folder)
        module = methods.get(name).parse(dict(options)).apply(subject, context).module
        predictor = TorchPredictor(module, self.data.preprocessing)
        clean = evaluate({"it": predictor}, suites.get("clean"), self.data.test, folder / "clean")
        left = sum(int(parameter.count_nonzero()) for parameter in module.parameters())
        return {
            "clean": 100 * clean.accuracy("it", "clean").value,
            "corrupted": 100 * noise5(module, self.data, self.settings.disturbed),
            "left": left / sum(parameter.numel() for parameter in module.parameters()),
        }


ARMS = (TRAINED, EDGE_POPUP, BIPROP)


def main() -> int:
    """Runs the study, or what is left of it."""
    options = study_arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    settings = QUICK if options.quick else Settings()
    data = cifar10(options.data, settings.images, settings.test)
    study = Study(Cells(options.out, "tickets", [asdict(settings), options.data.name]), "conv4", data, settings)
    found = {arm: study.cell(lambda folder, arm=arm: study.answers(arm, folder), arm) for arm in ARMS}
    rows = [
        [arm, f"{cell['left']:.3f}", f"{cell['clean']:.2f}", f"{cell['corrupted']:.2f}"] for arm, cell in found.items()
    ]
    print(table(["Conv4", "weights left", "clean %", "corrupted %"], rows))
    figures = {f"{arm}_below_trained": found[TRAINED]["clean"] - found[arm]["clean"] for arm in ARMS[1:]}
    return finish("tickets", figures, [Goal(name, at_most=WITHIN) for name in figures])


if __name__ == "__main__":
    raise SystemExit(main())
