"""Compares AdaSAP with plain SGD on CIFAR-10: accuracy, accuracy under noise, and flatness of the pruned network.

Both arms of a seed start from the same weights (a few epochs of SGD, or ``--weights``), lose the same share of their
parameters by the same criterion (global L2 norms) at the same moments of the same training; only ``sharpness``
differs. Test images are looked at once, by the finished networks; flatness is that of the loss on training images.
AdaSAP passes twice over each batch: its seconds are printed, not hidden. The radii were chosen on one other seed's
validation images; the paper's largest one (2.0) keeps networks of this size from learning anything.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _common import Goal, finish, table
from _study import Cells, cifar10, mean_and_spread, noise5, study_arguments

from edgecr.core.files import read_json, sha256
from edgecr.data.base import Dataset
from edgecr.data.views import LearningData
from edgecr.methods.base import Method, methods
from edgecr.models import architecture
from edgecr.subject import Subject
from edgecr.surgery.counters import count
from edgecr.training.checkpoint import discard
from edgecr.training.context import StepContext
from edgecr.training.evaluate import accuracy
from edgecr.training.sharpness.flatness import flatness

SGD, ADASAP = "sgd", "adasap"
ARMS = (SGD, ADASAP)


@dataclass(frozen=True)
class Settings:
    """The whole study."""

    arch: str = "resnet20"
    seeds: tuple[int, ...] = (0, 1, 2)
    train: int = 5_000
    """Training images."""
    base: int = 5
    """Epochs of SGD that both arms of a seed share."""
    epochs: int = 20
    """Epochs of each arm: warm-up, pruning and robustness."""
    start: int = 4
    """Epochs before the first channels go."""
    steps: int = 10
    every: int = 8
    """Updates between two prunings."""
    batch: int = 128
    lr: float = 0.05
    weight_decay: float = 5e-4
    params: float = 0.5
    """Fraction of the parameters that remains."""
    pruning: int = 6
    """Epochs of adaptive radii: warm-up and pruning."""
    rho_min: float = 0.01
    rho_max: float = 0.05
    rho: float = 0.05
    """Radius of all neurons afterwards."""
    noise_images: int = 2000
    flat_images: int = 256


FULL = Settings()
QUICK = replace(FULL, seeds=(0,), train=3000, epochs=12, every=5, noise_images=1000)


def training(s: Settings, epochs: int) -> dict[str, Any]:
    """The options that all trainings share."""
    return {
        "epochs": epochs,
        "batch": s.batch,
        "lr": s.lr,
        "weight_decay": s.weight_decay,
        "warmup": 1,
        "validate_every": epochs,
    }


def pruning(s: Settings, arm: str) -> Method:
    """One arm's step, as a recipe would declare it."""
    retrain = training(s, s.epochs)
    if arm == ADASAP:
        adaptive = {"epochs": s.pruning, "rho_min": s.rho_min, "rho_max": s.rho_max}
        retrain["sharpness"] = {"kind": "adasap", "rho_min": s.rho, "rho_max": s.rho, "phases": [adaptive]}
    schedule = {
        "kind": "exponential",
        "start": s.start,
        "steps": s.steps,
        "every": s.every,
        "slim": "each",
        "retrain": retrain,
    }
    return methods.get("prune").parse(
        {"score": "l2", "scope": "global", "budget": {"params": s.params}, "align": "off", "when": schedule}
    )


def base(s: Settings, data: Dataset, weights: Path | None, seed: int, folder: Path) -> dict[str, Any]:
    """Trains what both arms start from, and leaves it in the folder."""
    declared = architecture({"arch": s.arch, **({"weights": str(weights)} if weights else {})})
    subject = Subject.create(declared, len(data.classes), data.preprocessing.size, seed)
    seconds = 0.0
    if weights is None:
        context = StepContext(LearningData.of(data), seed, folder)
        subject = methods.get("train").parse(training(s, s.base)).apply(subject, context)
        seconds = trained_for(folder)
    subject.save(folder / "subject")
    discard(folder)
    return {"validation": accuracy(subject.module, data.validation, data.preprocessing), "seconds": seconds}


def arm(s: Settings, data: Dataset, name: str, seed: int, start: Path, folder: Path) -> dict[str, Any]:
    """Trains and prunes one arm and looks at what came out."""
    subject = pruning(s, name).apply(Subject.load(start), StepContext(LearningData.of(data), seed, folder))
    subject.save(folder / "subject")
    discard(folder)
    size = count(subject.module, subject.input_shape)
    flat = flatness(subject.module, LearningData.of(data), images=s.flat_images)
    return {
        "clean": accuracy(subject.module, data.test, data.preprocessing),
        "noise5": noise5(subject.module, data, s.noise_images),
        "rise": flat.rise,
        "eigenvalue": flat.eigenvalue,
        "loss": flat.loss,
        "params": size.params,
        "macs": size.macs,
        "seconds": trained_for(folder),
    }


def trained_for(folder: Path) -> float:
    """Seconds within updates, also of a training that was interrupted."""
    return float(sum(epoch["seconds"] for epoch in read_json(folder / "history.json")["epochs"]))


@dataclass(frozen=True)
class Compared:
    """One measure of both arms, seed by seed."""

    name: str
    values: Mapping[str, Sequence[float]]
    as_ratio: bool

    @property
    def paired(self) -> list[float]:
        """AdaSAP against SGD for each seed: the ratio, or the difference."""
        pairs = zip(self.values[ADASAP], self.values[SGD])
        return [ours / plain if self.as_ratio else ours - plain for ours, plain in pairs]

    @property
    def figure(self) -> str:
        """The name of the mean over seeds."""
        return f"{self.name}_{'ratio' if self.as_ratio else 'difference'}"

    @property
    def goal(self) -> Goal:
        """Not less accurate, not sharper."""
        return Goal(self.figure, at_most=1.0) if self.as_ratio else Goal(self.figure, at_least=0.0)

    def row(self) -> list[object]:
        """The cells of the table of means."""
        arms = [mean_and_spread(self.values[arm]) for arm in ARMS]
        how = "ratio" if self.as_ratio else "difference"
        return [self.name, *arms, how, mean_and_spread(self.paired), "  ".join(f"{v:.4f}" for v in self.paired)]


def judged(cells: Mapping[str, Sequence[Mapping[str, float]]]) -> list[Compared]:
    """The comparisons that the goals refer to."""
    kinds = {"clean": False, "noise5": False, "rise": True, "eigenvalue": True}
    return [
        Compared(name, {arm: [cell[name] for cell in cells[arm]] for arm in ARMS}, as_ratio)
        for name, as_ratio in kinds.items()
    ]


SHOWN = ("clean", "noise5", "rise", "eigenvalue", "loss", "params", "macs", "seconds")


def show(s: Settings, cells: Mapping[str, Sequence[Mapping[str, float]]]) -> int:
    """Prints every seed's figures, their means and the verdict."""
    rows = [
        [seed, arm, *(cells[arm][number][name] for name in SHOWN)]
        for number, seed in enumerate(s.seeds)
        for arm in ARMS
    ]
    print(table(["seed", "arm", *SHOWN], rows))
    found = judged(cells)
    print()
    print(table(["mean over seeds", *ARMS, "adasap to sgd", "mean", "each seed"], [one.row() for one in found]))
    cost = statistics.mean(a["seconds"] / b["seconds"] for a, b in zip(cells[ADASAP], cells[SGD]))
    print(f"\nAdaSAP's updates took {cost:.2f} times as long as SGD's.")
    figures: dict[str, Any] = {one.figure: round(statistics.mean(one.paired), 5) for one in found}
    figures |= {"seconds_ratio": round(cost, 2), "seeds": len(s.seeds)}
    return finish("adasap", figures, [one.goal for one in found])


def main() -> int:
    """Computes the cells that are missing and prints the verdict."""
    parser = study_arguments(__doc__)
    parser.add_argument("--weights", type=Path, help="start from this checkpoint of resnet20, not from own training")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    s = QUICK if asked.quick else FULL
    data = cifar10(asked.data, s.train)
    given = sha256(asked.weights) if asked.weights else None
    cells = Cells(asked.out, "adasap", [asdict(s), data.fingerprint, given])
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ARMS}
    for seed in s.seeds:
        start = f"base-{seed}"
        cells.get(start, partial(base, s, data, asked.weights, seed))
        for name in ARMS:
            make = partial(arm, s, data, name, seed, cells.folder / start / "subject")
            found[name].append(cells.get(f"{name}-{seed}", make))
    return show(s, found)


if __name__ == "__main__":
    sys.exit(main())
