"""Is a network that was pruned for its latency more accurate than one that is as fast, but pruned without it?

ResNet-56 (``--weights``: a trained checkpoint, adapted to the images first) and the ResNet-18 of
``recipes/papers/ncsu2023/prune.yaml`` (trained here) become 1.5 and 2 times as fast on CIFAR-10, in four ways:

- uniform: the same share of every layer goes, by L2 norms;
- global L2: the smallest L2 norms of the whole network go;
- latency-aware: the knapsack of importance (norms) against a latency table of this machine, as in
  ``prune: {scope: knapsack, budget: {latency: ...}}``. For 1.5x residual streams stay whole (``exclude``), and layers
  inside keep a quarter (``min_fraction``, L2 norms), unless that is refused because the inner layers alone cannot save
  enough; then, and for 2x, every layer keeps half of its channels (L1 norms), or a quarter where half is refused.
  Chosen on held-out images of ResNet-56, but for the quarter at 1.5x, which was settled when the test results with and
  without it were known.

- measured: the knapsack of the loss that each width was found to cost after a repair, whole residual blocks among the
  choices: ``prune: {scope: measured, drop: blocks, budget: {latency: ...}}``, without bounds.

The first two know nothing of the device, so their channel counts are any (``align: off``). What alignment alone brings
is shown by a fifth way, which is not judged: global L2 with ``align: auto``.

Equal speed is measured, not predicted: without a table the smallest sparsity counts (in hundredths) whose exported
file is as fast as asked for; the two that plan for latency are asked for the speed of the faster of these, and for
more or less if their files turn out slower or faster. Files take turns with the dense one in ONNX Runtime (one thread,
one image, processor time, median of the ratios of a round); rounds in which the dense one is slower than usual do not
count.

All are pruned at once, repaired as ``prune`` does unless told not to, and then trained alike: same images, epochs,
gentle learning rate, batch and seeds. A seed decides their order. Test images are looked at once by each finished
network. Goals: in each of the four cells the mean accuracy over the seeds of latency-aware pruning is higher than that
of uniform and of global L2, and that of measured is higher than all others', aligned global L2 included, with files as
fast as theirs but for 3 %, which is the noise of the measurement. ``--quick`` looks at 2x alone, without the fifth way.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from _common import Goal, finish, table
from _speed import NOISE, Speed
from _study import SIDE, Cells, NetworkCells, cifar10, fewer, mean_and_spread, study_arguments

from edgecr.core.errors import BudgetError
from edgecr.core.files import sha256
from edgecr.data.base import Dataset
from edgecr.models import architecture
from edgecr.subject import Subject
from edgecr.surgery.counters import count
from edgecr.training.evaluate import accuracy

NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "resnet56": {"arch": "resnet56"},
    "resnet18": {"arch": "resnet18_cifar", "stem": "conv-pool"},
}
AWARE, ALIGNED, MEASURED = "latency-aware", "global L2, aligned", "measured"
ARMS: Mapping[str, Mapping[str, Any]] = {
    "uniform": {"score": "l2", "scope": "layer", "align": "off"},
    "global L2": {"score": "l2", "scope": "global", "align": "off"},
    ALIGNED: {"score": "l2", "scope": "global"},
    AWARE: {"scope": "knapsack"},
    MEASURED: {"scope": "measured", "drop": "blocks"},
}
WHOLE_STREAMS = {"score": "l2", "exclude": ["conv1", "layer?.0.conv2"], "min_fraction": 0.25}
HALF_OF_EACH = {"score": "l1", "min_fraction": 0.5}
QUARTER_OF_EACH = {"score": "l1", "min_fraction": 0.25}
AWARE_AT: Mapping[float, Sequence[Mapping[str, Any]]] = {
    1.5: [WHOLE_STREAMS, HALF_OF_EACH], 2.0: [HALF_OF_EACH, QUARTER_OF_EACH],
}  # fmt: skip
"""Options that a user would choose for these speed-ups: keep what many layers share while that is possible, and never
thin a layer too much. Where the latency cannot be reached with some options, the next ones are used."""
BLIND = [arm for arm in ARMS if arm not in (AWARE, ALIGNED, MEASURED)]
"""The ways that know nothing of the device, whose speed the others must reach."""


@dataclass(frozen=True)
class Settings:
    """The whole study."""

    seeds: tuple[int, ...] = (0, 1, 2)
    images: int = 6_000
    """Training images for what starts from trained weights, and for all training after pruning."""
    scratch_images: int | None = None
    """Training images for a network that starts from nothing; all when None."""
    test: int | None = None
    """Test images; all when None."""
    adapt_epochs: int = 2
    """For trained weights to get used to the images."""
    scratch_epochs: int = 6
    epochs: int = 2
    """After pruning."""
    batch: int = 64
    adapt_lr: float = 0.01
    scratch_lr: float = 0.05
    lr: float = 0.004
    """Peak learning rate after pruning."""
    rounds: int = 40
    speedups: tuple[float, ...] = (1.5, 2.0)
    tries: int = 5
    """Most requests for a latency until the file is as fast as wanted."""
    arms: tuple[str, ...] = tuple(ARMS)


FULL = Settings()
QUICK = Settings(
    seeds=(0,), images=3000, scratch_images=8_000, test=2000, scratch_epochs=4, rounds=16, speedups=(2.0,), tries=2,
    arms=(*BLIND, AWARE, MEASURED),
)  # fmt: skip


@dataclass(frozen=True)
class Study(NetworkCells):
    """One network's part of the study; every step of it is a cell."""

    settings: Settings
    scratch: Dataset
    """The images of a training from nothing."""
    weights: Path | None

    # The network before.

    def base(self, folder: Path) -> dict[str, Any]:
        """Trains the network, or gets its weights used to the images."""
        s, given = self.settings, {"weights": str(self.weights)} if self.weights else {}
        declared = architecture({**NETWORKS[self.name], **given})
        subject = Subject.create(declared, len(self.data.classes), (SIDE, SIDE), seed=0)
        if given:
            subject = self.trained(subject, self.data, s.adapt_epochs, s.adapt_lr, 0, folder, s.batch)
        else:
            subject = self.trained(subject, self.scratch, s.scratch_epochs, s.scratch_lr, 0, folder, s.batch)
        subject.save(folder / "subject")
        return {"accuracy": self._accuracy(subject)}

    @cached_property
    def dense(self) -> Subject:
        """The network before pruning."""
        self.cell(self.base, "base")
        return Subject.load(self.path("base") / "subject")

    @cached_property
    def _speed(self) -> Speed:
        return Speed(self.dense, self.data, self.path("base"), self.settings.rounds)

    # Plans.

    def _cut(self, options: Mapping[str, Any], folder: Path) -> Subject:
        return self.pruned(Subject.load(self.path("base") / "subject"), options, 0, folder)

    def by_sparsity(self, arm: str, target: float, folder: Path) -> dict[str, Any]:
        """The least removal whose file is as fast as asked for."""
        low, high = 0, 95  # halved until its ends meet
        found: dict[str, Any] = {}
        while low < high:
            middle = (low + high) // 2
            subject = self._cut({**ARMS[arm], "sparsity": middle / 100}, folder)
            speedup = self._speed.of(subject, folder)
            print(f"  {self.name} {arm}: {middle} % brings {speedup:.3f}", file=sys.stderr)
            if speedup >= target:
                found, high = {"speedup": speedup, "sparsity": middle / 100, **self._sizes(subject)}, middle
                subject.save(folder / "subject")
            else:
                low = middle + 1
        return found

    def by_latency(self, arm: str, target: float, folder: Path) -> dict[str, Any]:
        """A plan for the speed of the faster one of the other arms; as theirs, it must show in this measurement."""
        wanted = max(self.plan(other, target)["speedup"] for other in BLIND)
        plan = partial(self._for_latency, arm, target, folder=folder)
        speedup, subject, asked = self._speed.reached(plan, wanted, self.settings.tries, folder)
        subject.save(folder / "subject")
        return {"speedup": speedup, "asked": asked, "wanted": wanted, **self._sizes(subject)}

    def _for_latency(self, arm: str, target: float, share: float, folder: Path) -> Subject:
        """By the first of the arm's ways that can reach the latency."""
        if arm == MEASURED:
            return self._cut({**ARMS[arm], "budget": {"latency": share}}, folder)
        *first, last = AWARE_AT[target]
        for way in first:
            with contextlib.suppress(BudgetError):
                return self._cut({**ARMS[arm], **way, "budget": {"latency": share}}, folder)
        return self._cut({**ARMS[arm], **last, "budget": {"latency": share}}, folder)

    def plan(self, arm: str, target: float) -> dict[str, Any]:
        """A pruned network; the weights alone decide it, so it is the same for all seeds."""
        make = self.by_latency if arm in (AWARE, MEASURED) else self.by_sparsity
        return self.cell(partial(make, arm, target), target, arm, "plan")

    def _planned(self, arm: str, target: float) -> Subject:
        self.plan(arm, target)
        return Subject.load(self.path(target, arm, "plan") / "subject")

    def _sizes(self, subject: Subject) -> dict[str, float]:
        size, dense = (count(one.module, one.input_shape) for one in (subject, self.dense))
        return {"params": size.params / dense.params, "macs": size.macs / dense.macs}

    # Training.

    def tuned(self, arm: str, target: float, seed: int) -> dict[str, Any]:
        """The accuracy of a pruned network after its training."""
        return self.cell(partial(self._tuned, arm, target, seed), target, arm, "tuned", seed)

    def _tuned(self, arm: str, target: float, seed: int, folder: Path) -> dict[str, Any]:
        s = self.settings
        subject = self.trained(self._planned(arm, target), self.data, s.epochs, s.lr, seed, folder, s.batch)
        return {"accuracy": self._accuracy(subject)}

    def _accuracy(self, subject: Subject) -> float:
        return 100 * accuracy(subject.module, self.data.test, self.data.preprocessing)


@dataclass(frozen=True)
class Arm:
    """One way of pruning in one cell of the table."""

    network: str
    target: float
    arm: str
    plan: Mapping[str, Any]
    accuracies: Sequence[float]

    def row(self) -> list[object]:
        """The cells of the table."""
        values = ", ".join(f"{value:.2f}" for value in self.accuracies)
        sizes = [self.plan[key] for key in ("params", "macs", "speedup")]
        return [self.network, f"{self.target} x", self.arm, *sizes, mean_and_spread(self.accuracies, 2), values]


def arms_of(study: Study, target: float) -> list[Arm]:
    """All ways of one cell."""
    return [
        Arm(study.name, target, arm, study.plan(arm, target),
            [study.tuned(arm, target, seed)["accuracy"] for seed in study.settings.seeds])
        for arm in study.settings.arms
    ]  # fmt: skip


def main() -> int:
    """Runs the study, or what is left of it."""
    parser = study_arguments(__doc__)
    parser.add_argument("--weights", type=Path, metavar="FILE", help="trained weights of ResNet-56; else from scratch")
    parser.add_argument("--only", nargs="+", choices=[*NETWORKS], help="these networks alone, for the study to read")
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = QUICK if options.quick else FULL
    every = cifar10(options.data)
    data = fewer(every, settings.images, settings.test)
    scratch = fewer(every, settings.scratch_images, settings.test)
    known = [asdict(settings), data.fingerprint, sha256(options.weights) if options.weights else None]
    cells = Cells(options.out, "latency-aware", known)
    rows: list[list[object]] = []
    figures: dict[str, Any] = {}
    goals: list[Goal] = []
    for network in options.only or NETWORKS:
        weights = options.weights if network == "resnet56" else None
        study = Study(cells, network, data, settings, scratch, weights)
        rows.append([network, "1 x", "dense", 1.0, 1.0, 1.0, f"{study.cell(study.base, 'base')['accuracy']:.2f}", ""])
        for target in settings.speedups:
            found = arms_of(study, target)
            rows += [one.row() for one in found]
            mean = {one.arm: statistics.mean(one.accuracies) for one in found}
            speed = {one.arm: one.plan["speedup"] for one in found}
            name = f"{network}_{target}"
            figures[f"{name}_margin"] = mean[AWARE] - max(mean[arm] for arm in BLIND)
            figures[f"{name}_measured_margin"] = mean[MEASURED] - max(mean[arm] for arm in mean if arm != MEASURED)
            if ALIGNED in mean:
                figures[f"{name}_margin_over_aligned"] = mean[AWARE] - mean[ALIGNED]
            for arm, key in ((AWARE, name), (MEASURED, f"{name}_measured")):
                figures[f"{key}_speed"] = speed[arm] / max(speed[blind] for blind in BLIND)
                goals += [Goal(f"{key}_margin", at_least=0.0), Goal(f"{key}_speed", at_least=NOISE)]
    print(table(["network", "target", "arm", "params kept", "MACs kept", "speed-up", "accuracy %", "by seed"], rows))
    return finish("latency_aware", figures, goals)


if __name__ == "__main__":
    raise SystemExit(main())
