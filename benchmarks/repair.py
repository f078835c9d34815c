"""Accuracy of networks that were pruned for a measured speed and repaired, before any training and after a little.

ResNet-56 (``--weights``: a trained checkpoint, adapted to the images first), and the ResNet-18 of
``recipes/papers/ncsu2023/prune.yaml``, MobileNetV2, EfficientNet-B0 and RegNet-X-400MF, all trained here, become 1.5
(ResNet-56) and 2 times as fast on CIFAR-10, in three ways, each with the same closed-form repair on 512 images:

- measured: ``prune: {scope: measured, drop: blocks, budget: {latency: ...}}``;
- HALP: ``scope: knapsack`` with L1 norms, and half of every layer kept at least, or a quarter where the latency cannot
  be reached with half, or no bound;
- global L2: ``scope: global``, aligned as the device likes.

Equal speed is measured, not predicted: each way is asked for more or less until its exported file is as fast as wanted,
but for 3 %, the noise of the measurement. Files take turns with the dense one in ONNX Runtime (one thread, one image,
processor time, median of the ratios of a round).

Each plan is looked at in four forms: channels removed and no more; batch norms recalibrated; repaired; and repaired
and trained for one epoch and for two at a gentle rate, alike in all ways. Test images answer once for each form. A
margin is the difference in accuracy over its standard error, of the same test images (for trained forms of the first
seed). Goals: ResNet-56, repaired and not trained, keeps 80 % at 2x and 85 % at 1.5x; measured is ahead of both others
by more than two standard errors at 2x, and not behind at 1.5x nor after training; repair lifts every way everywhere.
``--quick`` looks at ResNet-56 at 2x with fewer images and one epoch; its accuracy is no goal then.
"""

from __future__ import annotations

import contextlib
import math
import os
import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import Goal, finish, table
from _speed import Speed
from _study import Cells, NetworkCells, cifar10, fewer, study_arguments

from edgecr.core.errors import BudgetError
from edgecr.core.files import sha256
from edgecr.data.views import LearningData
from edgecr.methods.prune.recalibration import recalibrated
from edgecr.models import architecture
from edgecr.predictors.torch_predictor import TorchPredictor
from edgecr.subject import Subject
from edgecr.surgery.changes.base import replay
from edgecr.surgery.changes.drop import BlockDrop
from edgecr.surgery.counters import count
from edgecr.training.context import StepContext

MEASURED, HALP, GLOBAL = "measured", "HALP", "global L2"
ARMS: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    MEASURED: ({"scope": "measured", "drop": "blocks"},),
    HALP: tuple({"score": "l1", "scope": "knapsack", "min_fraction": least} for least in (0.5, 0.25, 0.0)),
    GLOBAL: ({"score": "l2", "scope": "global"},),
}
"""The options of each way; where the latency cannot be reached with some, the next ones are used."""
REMOVED, RECALIBRATED, REPAIRED = "removed", "recalibrated", "repaired"
UNTRAINED = (REMOVED, RECALIBRATED, REPAIRED)


@dataclass(frozen=True)
class Network:
    """One network of the study."""

    model: Mapping[str, Any]
    side: int = 32
    targets: tuple[float, ...] = (2.0,)


NETWORKS: Mapping[str, Network] = {
    "resnet56": Network({"arch": "resnet56"}, targets=(2.0, 1.5)),
    "resnet18": Network({"arch": "resnet18_cifar", "stem": "conv-pool"}),
    "mobilenet_v2": Network({"arch": "torchvision:mobilenet_v2"}, side=64),
    "efficientnet_b0": Network({"arch": "torchvision:efficientnet_b0"}, side=64),
    "regnet_x_400mf": Network({"arch": "torchvision:regnet_x_400mf"}, side=64),
}


@dataclass(frozen=True)
class Settings:
    """The whole study."""

    networks: tuple[str, ...] = tuple(NETWORKS)
    seeds: tuple[int, ...] = (0, 1)
    images: int = 20_000
    """Training images to adapt ResNet-56 to."""
    scratch_images: int = 10_000
    """Training images of a network that starts from nothing."""
    tune_images: int = 6_000
    """Training images after pruning."""
    test: int | None = None
    """Test images; all when None."""
    adapt_epochs: int = 2
    adapt_lr: float = 0.01
    scratch_epochs: int = 8
    scratch_lr: float = 0.05
    epochs: tuple[int, ...] = (1, 2)
    """Trainings after the repair."""
    lr: float = 0.004
    batch: int = 64
    rounds: int = 40
    tries: int = 4
    """Most requests for a latency until the file is as fast as wanted."""
    targets: tuple[float, ...] = (2.0, 1.5)


FULL = Settings()
QUICK = Settings(
    networks=("resnet56",), seeds=(0,), images=3_000, tune_images=3_000, test=2_000, adapt_epochs=1, epochs=(1,),
    rounds=16, tries=3, targets=(2.0,),
)  # fmt: skip


@dataclass(frozen=True)
class Study(NetworkCells):
    """One network's part of the study; every step of it is a cell."""

    settings: Settings
    weights: Path | None

    @property
    def network(self) -> Network:
        """The network of this part."""
        return NETWORKS[self.name]

    # The network before.

    def base(self) -> dict[str, Any]:
        """The accuracy of the network before pruning."""
        return self.cell(self._base, "base")

    def _base(self, folder: Path) -> dict[str, Any]:
        s, given = self.settings, {"weights": str(self.weights)} if self.weights else {}
        declared = architecture({**self.network.model, **given})
        side = self.network.side
        subject = Subject.create(declared, len(self.data.classes), (side, side), seed=0)
        if given:
            subject = self.trained(subject, self.data, s.adapt_epochs, s.adapt_lr, 0, folder, s.batch)
        else:
            subject = self.trained(subject, self.data, s.scratch_epochs, s.scratch_lr, 0, folder, s.batch)
        subject.save(folder / "subject")
        return {"accuracy": self._accuracy(subject, folder)}

    def _dense(self) -> Subject:
        self.base()
        return Subject.load(self.path("base") / "subject")

    @cached_property
    def _speed(self) -> Speed:
        return Speed(self._dense(), self.data, self.path("base"), self.settings.rounds)

    # Plans.

    def plan(self, arm: str, target: float) -> dict[str, Any]:
        """Plans that are as fast as wanted, with sizes and seconds; the first way of the arm that gets there."""
        return self.cell(partial(self._plan, arm, target), target, arm, "plan")

    def _plan(self, arm: str, target: float, folder: Path) -> dict[str, Any]:
        begin = time.process_time()
        speedup, subject, asked = self._speed.reached(
            partial(self._planned, arm, folder=folder), target, self.settings.tries, folder
        )
        subject.save(folder / "subject")
        size, dense = (count(one.module, one.input_shape) for one in (subject, self._dense()))
        return {
            "speedup": speedup,
            "asked": asked,
            "params": size.params / dense.params,
            "macs": size.macs / dense.macs,
            "blocks": sum(isinstance(change, BlockDrop) for change in subject.surgery),
            "cpu_s": time.process_time() - begin,
        }

    def _planned(self, arm: str, share: float, folder: Path) -> Subject:
        for options in ARMS[arm]:
            with contextlib.suppress(BudgetError):
                return self.pruned(self._dense(), {**options, "budget": {"latency": share}}, 0, folder)
        raise BudgetError(f"{self.name}: no way of {arm} reaches {share:.3f} of the latency.")

    # Forms of a plan.

    def form(self, arm: str, target: float, form: str) -> dict[str, Any]:
        """The accuracy of a plan that was not trained."""
        return self.cell(partial(self._form, arm, target, form), target, arm, form)

    def _form(self, arm: str, target: float, form: str, folder: Path) -> dict[str, Any]:
        return {"accuracy": self._accuracy(self._formed(arm, target, form, folder), folder)}

    def _formed(self, arm: str, target: float, form: str, folder: Path) -> Subject:
        """The plan as it is, or its changes made to the dense network anew."""
        self.plan(arm, target)
        planned = Subject.load(self.path(target, arm, "plan") / "subject")
        if form == REPAIRED:
            return planned
        cut = self._dense().with_changes(*planned.surgery)
        replay(cut.module, planned.surgery)
        return cut if form == REMOVED else recalibrated(cut, StepContext(LearningData.of(self.data), 0, folder))

    def tuned(self, arm: str, target: float, epochs: int, seed: int) -> dict[str, Any]:
        """The accuracy of a repaired plan after some epochs."""
        return self.cell(partial(self._tuned, arm, target, epochs, seed), target, arm, f"{epochs}epochs", seed)

    def _tuned(self, arm: str, target: float, epochs: int, seed: int, folder: Path) -> dict[str, Any]:
        subject = self._formed(arm, target, REPAIRED, folder)
        images = fewer(self.data, self.settings.tune_images)
        subject = self.trained(subject, images, epochs, self.settings.lr, seed, folder, self.settings.batch)
        return {"accuracy": self._accuracy(subject, folder)}

    # Answers.

    def _accuracy(self, subject: Subject, folder: Path) -> float:
        """The share of right answers, each of which stays in the cell's folder."""
        predictor, test = TorchPredictor(subject.module, self.data.preprocessing), self.data.test
        parts = np.array_split(np.arange(len(test)), -(-len(test) // 1000))
        chosen = [next(iter(predictor.predict(test.numpy(part)).values())).argmax(1) for part in parts]
        right = np.concatenate(chosen) == np.asarray(test.labels)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "right.npy", right)
        return 100 * float(right.mean())

    def margin(self, ours: tuple[object, ...], theirs: tuple[object, ...]) -> float:
        """The difference in accuracy of two cells in standard errors of the same test images."""
        one, other = (np.load(self.path(*names) / "right.npy").astype(float) for names in (ours, theirs))
        gained = one - other
        error = float(gained.std(ddof=1)) / math.sqrt(len(gained))
        return float(gained.mean()) / error if error else 0.0


def rows_of(study: Study, target: float, figures: dict[str, Any]) -> list[list[object]]:
    """One row for each way at one speed; its figures are added."""
    s, key, rows = study.settings, f"{study.name}_{target}", []
    for arm in ARMS:
        plan = study.plan(arm, target)
        forms = {form: study.form(arm, target, form)["accuracy"] for form in UNTRAINED}
        after = {n: [study.tuned(arm, target, n, seed)["accuracy"] for seed in s.seeds] for n in s.epochs}
        own = f"{key}_{arm.replace(' ', '_')}"
        figures |= {f"{own}_{form}": value for form, value in forms.items()}
        figures |= {f"{own}_{n}_epochs": statistics.mean(values) for n, values in after.items()}
        figures |= {f"{own}_speedup": plan["speedup"], f"{own}_lift": forms[REPAIRED] - forms[RECALIBRATED]}
        sizes = [plan[name] for name in ("speedup", "params", "macs", "blocks")]
        trained = [statistics.mean(values) for values in after.values()]
        rows.append([study.name, f"{target} x", arm, *sizes, *forms.values(), *trained])
    for form in (REPAIRED, *(f"{n}epochs" for n in s.epochs)):
        seed = () if form == REPAIRED else (0,)
        margins = [study.margin((target, MEASURED, form, *seed), (target, arm, form, *seed)) for arm in (HALP, GLOBAL)]
        figures[f"{key}_margin_{form}"] = min(margins)
    return rows


def goals_of(settings: Settings) -> list[Goal]:
    """The goals of the settings."""
    goals = []
    for name in settings.networks:
        for target in [one for one in NETWORKS[name].targets if one in settings.targets]:
            key = f"{name}_{target}"
            goals += [Goal(f"{key}_{arm.replace(' ', '_')}_lift", at_least=0.0) for arm in ARMS]
            if name == "resnet56":
                goals.append(Goal(f"{key}_margin_{REPAIRED}", at_least=2.0 if target == 2 else 0.0))
                goals += [Goal(f"{key}_margin_{n}epochs", at_least=0.0) for n in settings.epochs]
    if settings is FULL:
        goals += [
            Goal("resnet56_2.0_measured_repaired", at_least=80),
            Goal("resnet56_1.5_measured_repaired", at_least=85),
        ]
    return goals


def main() -> int:
    """Runs the study, or what is left of it."""
    parser = study_arguments(__doc__)
    parser.add_argument("--weights", type=Path, metavar="FILE", help="trained weights of ResNet-56; else from scratch")
    parser.add_argument("--only", nargs="+", choices=[*NETWORKS], help="these networks alone, for the study to read")
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = QUICK if options.quick else FULL
    known = [asdict(settings), options.data.name, sha256(options.weights) if options.weights else None]
    cells = Cells(options.out, "repair", known)
    os.environ["XDG_CACHE_HOME"] = str(cells.folder.resolve() / "cache")  # values that others measured cost nothing
    rows: list[list[object]] = []
    figures: dict[str, Any] = {}
    chosen = [name for name in settings.networks if name in (options.only or NETWORKS)]
    for name in chosen:
        weights = options.weights if name == "resnet56" else None
        count = settings.images if weights else settings.scratch_images
        data = cifar10(options.data, count, settings.test, side=NETWORKS[name].side)
        study = Study(cells, name, data, settings, weights)
        accuracy = study.base()["accuracy"]
        figures[f"{name}_dense"] = accuracy
        rows.append([name, "1 x", "dense", 1.0, 1.0, 1.0, 0, accuracy, "", "", *[""] * len(settings.epochs)])
        for target in [one for one in study.network.targets if one in settings.targets]:
            rows += rows_of(study, target, figures)
    epochs = [f"{n} epoch{'s' * (n > 1)}" for n in settings.epochs]
    header = ["network", "target", "arm", "speed-up", "params", "MACs", "blocks gone", *UNTRAINED, *epochs]
    print(table(header, rows))
    goals = [goal for goal in goals_of(settings) if goal.figure.startswith(tuple(chosen))]
    return finish("repair", figures, goals)


if __name__ == "__main__":
    raise SystemExit(main())
