"""Weights pruned in the ways of the papers, all with equal retraining: accuracy on clean and on corrupted images.

A ResNet-20 (``--weights``: a trained checkpoint) is adapted to CIFAR-10 first. Each arm then removes 50, 80, 90 and
95 % of its parameters, and trains for as many epochs of the same images as any other:

- WT, SiPP, random: single weights, at once, then the whole schedule again (``sparsify``);
- FT, PFP: filters and channels as Lost in Pruning chooses them, really removed (``prune``; the same share of all
  parameters), then the same schedule. What cannot be removed that far without a layer losing all is said to be so;
- fine-tuned: WT's mask, and the schedule at its last, low rate (FT of the CARDs paper);
- LRR: WT in rounds, each with its part of the epochs and the schedule from its beginning;
- GMP: weights go while the schedule runs.

Dense is the adapted network trained as long. Corrupted is the mean of the five disturbances of ``noise5`` on some test
images. The orderings that the papers found are goals, as mean differences in points that are held or not:
WT and SiPP keep more than FT and PFP; WT keeps more than random; LRR is not below dense on corrupted images up to 80 %;
at 90 % and more, fine-tuned and GMP are below dense there. ``--quick`` has fewer images, epochs and sparsities.

``--untrained`` asks instead what a repair is worth: WT's mask alone, with recalibrated batch norms, and with layers
refitted in closed form, all without training. Goal: repaired is ahead of both others in the mean.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from _common import Goal, finish, table
from _study import Cells, NetworkCells, cifar10, mean_and_spread, noise5, study_arguments

from edgecr.core.errors import EdgecrError
from edgecr.core.files import sha256
from edgecr.data.base import Dataset
from edgecr.data.views import LearningData
from edgecr.methods.base import methods
from edgecr.models import architecture
from edgecr.predictors.torch_predictor import TorchPredictor
from edgecr.robustness.evaluate import evaluate
from edgecr.robustness.suites import suites
from edgecr.subject import Subject
from edgecr.surgery.counters import count
from edgecr.training.context import StepContext

DENSE, WT, SIPP, RANDOM, FT, PFP = "dense", "WT", "SiPP", "random", "FT", "PFP"
FINE_TUNED, LRR, GMP = "fine-tuned", "LRR", "GMP"
ARMS = (WT, SIPP, FT, PFP, RANDOM, FINE_TUNED, LRR, GMP)
ADAPTED, MASKED, RECALIBRATED, REPAIRED = "adapted", "masked", "recalibrated", "repaired"
UNTRAINED = {
    MASKED: {"repair": False},
    RECALIBRATED: {"repair": False, "recalibrate": True},
    REPAIRED: {"repair": True},
}
CLEAN, CORRUPTED = "clean", "corrupted"
HIGH = 0.9
"""Sparsity from which on the papers call a network highly sparse."""
MODERATE = 0.8


@dataclass(frozen=True)
class Settings:
    """The whole study."""

    sparsities: tuple[float, ...] = (0.5, 0.8, 0.9, 0.95)
    seeds: tuple[int, ...] = (0,)
    images: int = 10_000
    test: int | None = None
    """Test images; all when None."""
    disturbed: int = 1_000
    """Test images that are disturbed."""
    adapt_epochs: int = 4
    epochs: int = 4
    rounds: int = 2
    """Rounds of LRR, which share the epochs."""
    lr: float = 0.02
    batch: int = 64


QUICK = Settings(sparsities=(0.8, 0.95), images=4_000, test=2_000, disturbed=400, adapt_epochs=2, epochs=2)


@dataclass(frozen=True)
class Study(NetworkCells):
    """All arms of one network."""

    settings: Settings
    weights: Path | None

    def base(self, folder: Path) -> dict[str, Any]:
        """The network that every arm starts from."""
        given = {"weights": str(self.weights)} if self.weights else {}
        subject = Subject.create(architecture({"arch": "resnet20", **given}), len(self.data.classes), (32, 32), seed=0)
        self.trained(subject, self.data, self.settings.adapt_epochs, 0.01 if given else 0.1, 0, folder).save(
            folder / "subject"
        )
        return {"params": count(subject.module, subject.input_shape).params}

    def start(self) -> Subject:
        """The adapted network, each time a copy of its own."""
        self.cell(self.base, "base")
        return Subject.load(self.path("base") / "subject")

    def schedule(self, epochs: int | None = None, lr: float | None = None) -> dict[str, Any]:
        """A retraining: the rate falls to a tenth at half of it, and to a hundredth at three quarters."""
        chosen = self.settings
        length = epochs or chosen.epochs
        marks = sorted({max(1, length // 2), max(1, 3 * length // 4)} - {length})
        steps = {"schedule": "multistep", "milestones": marks} if lr is None and marks else {"schedule": "constant"}
        return {
            "epochs": length, "lr": lr or chosen.lr, "batch": chosen.batch, "weight_decay": 1e-4,
            "augment": "crop-flip", "validate_every": length, **steps,
        }  # fmt: skip

    def pause(self) -> int:
        """Updates between two of about ten times at which GMP removes weights."""
        return max(1, self.settings.images // self.settings.batch * self.settings.epochs // 14)

    def made(self, arm: str, sparsity: float, seed: int, folder: Path) -> Subject:
        """The pruned and retrained network of one cell."""
        subject, options = self.start(), dict[str, Any]()
        if arm == ADAPTED:
            return subject
        if arm in UNTRAINED:
            step = {"sparsity": sparsity, "count": "all", **UNTRAINED[arm]}
            return self.step("sparsify", step, subject, seed, folder / "sparsify")
        match arm:
            case "WT" | "fine-tuned":
                options = {"score": "magnitude"}
            case "SiPP" | "random":
                options = {"score": arm.lower()}
            case "LRR":
                retrain = self.schedule(self.settings.epochs // self.settings.rounds)
                options = {
                    "when": {"kind": "iterative", "rounds": self.settings.rounds, "rewind": "rate", "retrain": retrain}
                }
            case "GMP":
                options = {"when": {"kind": "cubic", "every": self.pause(), "retrain": self.schedule()}}
        if arm in (FT, PFP):
            subject = self.pruned(subject, {
                "score": arm.lower(), "scope": "layer" if arm == FT else "global", "budget": {"params": 1 - sparsity},
                "align": "off", "repair": False,
            }, seed, folder / "prune")  # fmt: skip
        elif arm != DENSE:
            at_once = {"repair": False} if "when" not in options else {}
            step = {"scope": "global", "sparsity": sparsity, "count": "all", **at_once, **options}
            subject = self.step("sparsify", step, subject, seed, folder / "sparsify")
        if arm in (LRR, GMP):
            return subject
        low = self.settings.lr / 100 if arm == FINE_TUNED else None
        return self.step("train", self.schedule(lr=low), subject, seed, folder / "train")

    def step(self, name: str, options: Mapping[str, Any], subject: Subject, seed: int, folder: Path) -> Subject:
        """One step of a recipe."""
        folder.mkdir(parents=True, exist_ok=True)
        return (
            methods.get(name).parse(dict(options)).apply(subject, StepContext(LearningData.of(self.data), seed, folder))
        )

    def answers(self, arm: str, sparsity: float, seed: int, folder: Path) -> dict[str, Any]:
        """Accuracies of one cell, and the share of the parameters that are gone."""
        try:
            subject = self.made(arm, sparsity, seed, folder)
        except EdgecrError as error:
            return {"refused": str(error)}
        module, whole = subject.module, self.cell(self.base, "base")["params"]
        left = sum(int(parameter.count_nonzero()) for parameter in module.parameters())
        clean = evaluate(
            {"it": TorchPredictor(module, self.data.preprocessing)},
            suites.get("clean"),
            self.data.test,
            folder / "clean",
        )
        return {
            CLEAN: 100 * clean.accuracy("it", "clean").value,
            CORRUPTED: 100 * noise5(module, self.data, self.settings.disturbed),
            "gone": 1 - left / whole,
        }


def found_in(
    study: Study, dense: str, arms: Iterable[str], sparsities: Iterable[float]
) -> dict[tuple[str, float], list[dict[str, Any]]]:
    """The figures of all cells, one for each seed; dense has the sparsity 0."""
    wanted = [(dense, 0.0), *((arm, sparsity) for sparsity in sparsities for arm in arms)]
    return {
        (arm, sparsity): [
            study.cell(lambda folder, a=arm, p=sparsity, s=seed: study.answers(a, p, s, folder), arm, sparsity, seed)
            for seed in study.settings.seeds
        ]
        for arm, sparsity in wanted
    }


Found = Mapping[tuple[str, float], list[dict[str, Any]]]


def mean(found: Found, arm: str, sparsity: float, figure: str) -> float:
    """The mean of the seeds; nan where an arm was refused, which no goal takes for met."""
    values = [cell.get(figure, float("nan")) for cell in found[arm, sparsity]]
    return statistics.mean(values)


def ahead(
    found: Found, one: tuple[str, ...], other: tuple[str, ...], figure: str, where: Callable[[float], bool]
) -> float:
    """By how many points some arms are ahead of others, in the mean of the sparsities; dense counts at 0."""

    def of(arms: tuple[str, ...], sparsity: float) -> float:
        return statistics.mean(mean(found, arm, 0.0 if arm == DENSE else sparsity, figure) for arm in arms)

    chosen = sorted({sparsity for _, sparsity in found if sparsity and where(sparsity)})
    assert chosen, "the settings have sparsities of each kind"
    return statistics.mean(of(one, sparsity) - of(other, sparsity) for sparsity in chosen)


def orderings(found: Found) -> tuple[dict[str, float], list[Goal]]:
    """The orderings that the papers found, in points, and the least that each must have to be held."""
    figures = {
        "weights_over_filters": ahead(found, (WT, SIPP), (FT, PFP), CLEAN, lambda _: True),
        "wt_over_sipp": ahead(found, (WT,), (SIPP,), CLEAN, lambda sparsity: sparsity <= HIGH),
        "wt_over_random": ahead(found, (WT,), (RANDOM,), CLEAN, lambda _: True),
        "lrr_over_dense_corrupted": ahead(found, (LRR,), (DENSE,), CORRUPTED, lambda sparsity: sparsity <= MODERATE),
        "dense_over_fine_tuned_corrupted": ahead(found, (DENSE,), (FINE_TUNED,), CORRUPTED, lambda s: s >= HIGH),
        "dense_over_gmp_corrupted": ahead(found, (DENSE,), (GMP,), CORRUPTED, lambda sparsity: sparsity >= HIGH),
    }
    goals = [Goal(name, at_least=0.0) for name in figures if name != "wt_over_sipp"]
    return figures, [*goals, Goal("wt_over_sipp", at_least=-1.5, at_most=1.5)]


def gains(found: Found) -> tuple[dict[str, float], list[Goal]]:
    """By how many points a repair is ahead of a mask alone, and of recalibrated norms."""
    figures = {
        f"{REPAIRED}_over_{other}": ahead(found, (REPAIRED,), (other,), CLEAN, lambda _: True)
        for other in (MASKED, RECALIBRATED)
    }
    return figures, [Goal(name, at_least=0.0) for name in figures]


def rows_of(found: Found) -> list[list[object]]:
    """One row for each arm and sparsity."""
    rows: list[list[object]] = []
    for (arm, sparsity), cells in found.items():
        if refused := next((cell["refused"] for cell in cells if "refused" in cell), None):
            rows.append([f"{sparsity:.0%}", arm, "refused", refused[:60], ""])
            continue
        told = [mean_and_spread([cell[figure] for cell in cells], 2) for figure in (CLEAN, CORRUPTED)]
        rows.append([f"{sparsity:.0%}", arm, f"{statistics.mean(cell['gone'] for cell in cells):.4f}", *told])
    return rows


def main() -> int:
    """Runs the study, or what is left of it."""
    parser = study_arguments(__doc__)
    parser.add_argument("--weights", type=Path, metavar="FILE", help="trained weights of ResNet-20; else from scratch")
    parser.add_argument("--untrained", action="store_true", help="masks, recalibration and repair, without training")
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = QUICK if options.quick else Settings()
    known = [asdict(settings), options.data.name, sha256(options.weights) if options.weights else None]
    data: Dataset = cifar10(options.data, settings.images, settings.test)
    study = Study(Cells(options.out, "weights-study", known), "resnet20", data, settings, options.weights)
    if options.untrained:
        found = found_in(study, ADAPTED, UNTRAINED, Settings.sparsities)  # no training, so quick enough for all of them
    else:
        found = found_in(study, DENSE, ARMS, settings.sparsities)
    print(table(["asked", "arm", "parameters gone", f"{CLEAN} %", f"{CORRUPTED} %"], rows_of(found)))
    figures, goals = gains(found) if options.untrained else orderings(found)
    return finish("weights_study", figures, goals)


if __name__ == "__main__":
    raise SystemExit(main())
