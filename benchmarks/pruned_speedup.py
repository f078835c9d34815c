"""Compares the speed-up of a pruned network's exported file with the one that its multiply-accumulates promise.

Networks lose 5, 10, 30 and 50 % of the channels of every group: by EdgeCR with its automatic alignment, by
Torch-Pruning as it comes, and by Torch-Pruning with ``round_to`` 8 and 16, of which the faster file counts. All are
written by the same exporter and run in ONNX Runtime on the CPU: one thread, one image of 224 pixels. The files of
one network take turns; in its turn a file runs until the caches that the others emptied are as warm as if it ran
alone, and is then measured. The processor time of the calling thread is taken (a shared machine disturbs it little),
and a speed-up is the median of the ratios to the dense file in the same round. Efficiency is the speed-up over that of
the multiply-accumulates. Goals: at least 0.9 of it at 30 and 50 %, and never slower than dense. Needs
``pip install torch-pruning``.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import Goal, arguments, finish, interleaved, paired_ratio, table, warm_seconds
from torch import nn

from edgecr.data.base import Preprocessing
from edgecr.exporters.onnx.declaration import PLAIN
from edgecr.exporters.onnx.write import write
from edgecr.models import architecture
from edgecr.predictors.onnx_predictor import open_session
from edgecr.subject import Subject
from edgecr.surgery.carry_out import prune_channels
from edgecr.surgery.counters import count
from edgecr.surgery.planning.widths import Limits
from edgecr.surgery.scoring.scores import ScoringInputs, scores

NETWORKS = ("resnet18", "mobilenet_v2", "resnet50")
QUICK = ("resnet18", "mobilenet_v2")
RATIOS, QUICK_RATIOS = (0.05, 0.1, 0.3, 0.5), (0.05, 0.3, 0.5)
JUDGED = (0.3, 0.5)
SIDE = 224
OURS, PEER = "EdgeCR", "Torch-Pruning"
ROUND_TO = (8, 16)
TURN_S = 0.05
"""Seconds that a file is measured in each round, after as many seconds that only warm it up."""
Prune = Callable[[nn.Module, float], nn.Module]


def by_edgecr(module: nn.Module, ratio: float) -> nn.Module:
    """The same fraction of every group, with automatic alignment."""
    pruned = prune_channels(
        (3, SIDE, SIDE),
        scores.get("l2"),
        ScoringInputs(module),
        Limits(),
        lambda planner: planner.by_sparsity("layer", ratio),
    )
    return pruned.module


def by_peer(module: nn.Module, ratio: float, round_to: int | None = None) -> nn.Module:
    """The same by Torch-Pruning, sparing the classifier."""
    import torch_pruning

    module = copy.deepcopy(module)
    heads = [child for child in module.modules() if isinstance(child, nn.Linear)]
    torch_pruning.pruner.BasePruner(
        module, torch.randn(1, 3, SIDE, SIDE), torch_pruning.importance.MagnitudeImportance(p=2),
        pruning_ratio=ratio, round_to=round_to, ignored_layers=heads,
    ).step()  # fmt: skip
    return module


SIDES: dict[str, Prune] = {
    OURS: by_edgecr, PEER: by_peer, **{f"{PEER} /{n}": partial(by_peer, round_to=n) for n in ROUND_TO}
}  # fmt: skip


@dataclass(frozen=True)
class File:
    """One exported network."""

    side: str
    ratio: float
    macs: int
    session: Any
    image: np.ndarray

    @property
    def label(self) -> str:
        """A name of its own among the files of a network."""
        return f"{self.side} {self.ratio}"

    def seconds(self) -> float:
        """Processor time of one call, the median of a turn."""
        return warm_seconds(lambda: self.session.run(None, {"input": self.image}), TURN_S)


@dataclass(frozen=True)
class Speed:
    """The speed-up of one file over the dense one."""

    file: File
    speedup: float
    ideal: float

    @property
    def efficiency(self) -> float:
        """The part of the ideal speed-up that came true."""
        return self.speedup / self.ideal

    def row(self, network: str) -> list[object]:
        """The cells of the table."""
        return [
            network,
            f"{self.file.ratio:.0%}",
            self.file.side,
            1 / self.ideal,
            self.ideal,
            self.speedup,
            self.efficiency,
        ]


def files(network: str, ratios: tuple[float, ...], folder: Path) -> Iterator[File]:
    """The dense network, and every side's pruned ones."""
    declared = architecture({"arch": f"torchvision:{network}"})
    subject = Subject.create(declared, 1000, (SIDE, SIDE), seed=0)
    dense = subject.module.eval()
    yield written(subject, "dense", 0.0, folder)
    for ratio in ratios:
        for side, prune in SIDES.items():
            yield written(subject.with_module(prune(dense, ratio)), side, ratio, folder)


def written(subject: Subject, side: str, ratio: float, folder: Path) -> File:
    """Exports a network and loads it for one thread."""
    path = folder / f"{side} {ratio}.onnx".replace("/", "")
    write(subject, PLAIN, Preprocessing((0.0,) * 3, (1.0,) * 3, (SIDE, SIDE)), path)
    image = np.random.default_rng(0).standard_normal((1, 3, SIDE, SIDE), dtype=np.float32)
    session = open_session(path, threads=1)
    return File(side, ratio, count(subject.module, subject.input_shape).macs, session, image)


def speeds(network: str, ratios: tuple[float, ...], rounds: int) -> list[Speed]:
    """Measures all files of a network in turn."""
    with tempfile.TemporaryDirectory(prefix="edgecr-speedup-") as folder:
        dense, *pruned = files(network, ratios, Path(folder))
        samples = interleaved({file.label: file.seconds for file in (dense, *pruned)}, rounds)
    return [
        Speed(file, paired_ratio(samples[dense.label], samples[file.label]), dense.macs / file.macs) for file in pruned
    ]


def best_peers(found: list[Speed]) -> list[Speed]:
    """Without the slower ``round_to`` of each ratio."""
    rounded = [one for one in found if one.file.side not in (OURS, PEER)]
    best = {
        max((one for one in rounded if one.file.ratio == ratio), key=lambda one: one.speedup).file.label
        for ratio in {one.file.ratio for one in rounded}
    }
    return [one for one in found if one not in rounded or one.file.label in best]


def main() -> int:
    """Runs the benchmark."""
    parser = arguments(__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="measure these networks alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    networks = options.only or (QUICK if options.quick else NETWORKS)
    ratios, rounds = (QUICK_RATIOS, 15) if options.quick else (RATIOS, 25)
    rows: list[list[object]] = []
    figures: dict[str, float] = {}
    for network in networks:
        for one in best_peers(speeds(network, ratios, rounds)):
            rows.append(one.row(network))
            if one.file.side == OURS:
                key = f"{network}_{one.file.ratio:.0%}".rstrip("%")
                figures |= {f"{key}_speedup": one.speedup, f"{key}_efficiency": one.efficiency}
        print(f"{network} is measured.", flush=True)
    print(table(["network", "ratio", "side", "MACs kept", "ideal", "speed-up", "efficiency"], rows))
    judged = [f"{network}_{ratio:.0%}".rstrip("%") for network in networks for ratio in JUDGED]
    figures["least_efficiency"] = min(figures[f"{key}_efficiency"] for key in judged)
    figures["least_speedup"] = min(value for key, value in figures.items() if key.endswith("_speedup"))
    goals = [Goal("least_efficiency", at_least=0.9), Goal("least_speedup", at_least=1.0)]
    return finish("pruned_speedup", figures, goals)


if __name__ == "__main__":
    raise SystemExit(main())
