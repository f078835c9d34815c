"""Accuracy of 8-bit files of each runtime on CIFAR-10, clean and under the five disturbances, against float32.

ResNet-56 (``--weights``: a trained checkpoint, adapted to the images first) and a ResNet-18 for CIFAR (trained here),
as they are and with half of their compute pruned and repaired without training. Every file is exported and proven by
the product, and runs in its own runtime; TensorRT's file runs in ONNX Runtime, rounded as it says. ``onnx-int8`` is
made a second time with ``max_drop: 0.002``. Differences are paired, over all test images for clean ones and a part of
them for disturbed ones, with 95 % intervals. Goals: each file loses at most 0.5 points clean and 1.0 under
disturbances, and the file with ``max_drop`` does not lose more than it allows beyond its interval. Exports are not
held to parity. ``--quick`` has fewer images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import Goal, finish, table
from _study import Cells, NetworkCells, cifar10, study_arguments

from edgecr.core.estimate import Estimate
from edgecr.core.files import sha256
from edgecr.data.views import ProofData
from edgecr.exporters import Target, exporters, load_target, parse_target
from edgecr.models import architecture
from edgecr.predictors import predictor_for
from edgecr.robustness.evaluate import evaluate
from edgecr.robustness.result import BASELINE
from edgecr.robustness.suites import suites
from edgecr.subject import Subject

CONTROLLED, LIMIT = "onnx-int8 max_drop", 0.002
NAMES = ("onnx-int8", "openvino-int8", "tensorrt-jetpack6-int8")
DENSE, PRUNED = "dense", "pruned and repaired"
NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "resnet56": {"arch": "resnet56"},
    "resnet18": {"arch": "resnet18_cifar", "stem": "conv-pool"},
}
CLEAN, NOISE = "clean", "noise5"
MOST = {CLEAN: 0.5, NOISE: 1.0}
"""Points that a file may lose."""


@dataclass(frozen=True)
class Settings:
    """The whole study."""

    images: int = 20_000
    """Training images to adapt the network to, and to calibrate with."""
    epochs: int = 2
    scratch_epochs: int = 6
    """For a network without weights."""
    test: int | None = None
    """Test images; all when None."""
    disturbed: int = 2_000
    """Test images that are disturbed."""


QUICK = Settings(images=3_000, epochs=1, scratch_epochs=4, test=2_000, disturbed=400)


@dataclass(frozen=True)
class Study(NetworkCells):
    """One network's part of the study."""

    settings: Settings
    weights: Path | None

    def base(self, folder: Path) -> dict[str, Any]:
        """Adapts the network, or trains it from nothing."""
        given = {"weights": str(self.weights)} if self.weights else {}
        declared = architecture({**NETWORKS[self.name], **given})
        subject = Subject.create(declared, len(self.data.classes), (32, 32), seed=0)
        epochs, lr = (self.settings.epochs, 0.01) if given else (self.settings.scratch_epochs, 0.05)
        self.trained(subject, self.data, epochs, lr, 0, folder).save(folder / "subject")
        return {}

    def subject(self, form: str) -> Subject:
        """The network as it is, or pruned."""
        self.cell(self.base, "base")
        dense = Subject.load(self.path("base") / "subject")
        if form == DENSE:
            return dense
        options = {"budget": {"macs": 0.5}, "score": "l2", "scope": "global", "align": "off"}
        return self.pruned(dense, options, 0, self.path("pruning"))

    def answers(self, form: str, folder: Path) -> dict[str, Any]:
        """The accuracy of every file, and its difference from float32 with an interval, in points."""
        subject, proof, predictors = self.subject(form), ProofData.of(self.data), {}
        found: dict[str, Any] = {}
        for name, target in targets().items():
            place = folder / name.replace(" ", "_")
            artifact = exporters.get(target.format)().export(subject, target, proof, place, {})
            predictors[name] = predictor_for(artifact, threads=1)
            if name == CONTROLLED:
                found["floats"] = len(artifact.lineage["rounding"]["floats_kept"])
        some = np.sort(np.random.default_rng(0).choice(len(self.data.test), self.settings.disturbed, replace=False))
        whole = evaluate(predictors, suites.get(CLEAN), self.data.test, folder / CLEAN)
        disturbed = evaluate(predictors, suites.get(NOISE), self.data.test, folder / NOISE, indices=some)
        found[f"{CLEAN}_{BASELINE}"] = 100 * whole.accuracy(BASELINE, CLEAN).value
        found[f"{NOISE}_{BASELINE}"] = 100 * disturbed.mean_accuracy(BASELINE).value
        for name in [each for each in predictors if each != BASELINE]:
            found[f"{CLEAN}_{name}"] = points(whole.delta(CLEAN, candidate=name))
            found[f"{NOISE}_{name}"] = points(disturbed.mean_delta(candidate=name))
        return found


def points(delta: Estimate) -> list[float]:
    """A difference and its interval, in points."""
    return [100 * value for value in (delta.value, delta.low, delta.high)]


def targets() -> Mapping[str, Target]:
    """The files, that of float32 first; accuracy on many images is judged here, and not the answer to a single one."""
    declared = {name: load_target(name).model_dump(mode="json") for name in ("onnx", *NAMES)}
    for name in NAMES:
        declared[name]["parity"] = {"cosine": None, "agreement": 0.0}
    controlled = declared["onnx-int8"] | {"quantise": declared["onnx-int8"]["quantise"] | {"max_drop": LIMIT}}
    named = {BASELINE: declared["onnx"], **{name: declared[name] for name in NAMES}, CONTROLLED: controlled}
    return {name: parse_target(values) for name, values in named.items()}


def rows_of(study: Study, form: str, figures: dict[str, float], goals: list[Goal]) -> list[list[object]]:
    """One row for each file of a network; its figures and goals are added."""
    found = study.cell(lambda folder: study.answers(form, folder), form)
    rows: list[list[object]] = []
    rows.append([study.name, form, "float32", *(f"{found[f'{suite}_{BASELINE}']:.2f} %" for suite in MOST), ""])
    for name in (*NAMES, CONTROLLED):
        floats = found["floats"] if name == CONTROLLED else ""
        rows.append([study.name, form, name, *(interval(found[f"{suite}_{name}"]) for suite in MOST), floats])
        for suite, most in MOST.items():
            value, _, high = found[f"{suite}_{name}"]
            key = f"{study.name}_{form}_{name}_{suite}".replace(" ", "_")
            figures[key] = value
            if name != CONTROLLED:
                goals.append(Goal(key, at_least=-most))
            elif suite == CLEAN:
                figures[f"{key}_upper"] = high
                goals.append(Goal(f"{key}_upper", at_least=-100 * LIMIT))
    return rows


def main() -> int:
    """Runs the study, or what is left of it."""
    parser = study_arguments(__doc__)
    parser.add_argument("--weights", type=Path, metavar="FILE", help="trained weights of ResNet-56; else from scratch")
    parser.add_argument("--only", nargs="+", choices=[*NETWORKS], help="these networks alone, for the study to read")
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = QUICK if options.quick else Settings()
    known = [asdict(settings), options.data.name, sha256(options.weights) if options.weights else None]
    data, cells = cifar10(options.data, settings.images, settings.test), Cells(options.out, "int8-accuracy", known)
    rows, figures, goals = list[list[object]](), dict[str, float](), list[Goal]()
    for name in options.only or NETWORKS:
        study = Study(cells, name, data, settings, options.weights if name == "resnet56" else None)
        for form in (DENSE, PRUNED):
            rows += rows_of(study, form, figures, goals)
    print(table(["network", "form", "file", CLEAN, NOISE, "layers in floats"], rows))
    return finish("int8_accuracy", figures, goals)


def interval(points: list[float]) -> str:
    """A difference in points, with its interval."""
    value, low, high = points
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"


if __name__ == "__main__":
    raise SystemExit(main())
