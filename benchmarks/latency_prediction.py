"""Measures the accuracy of a latency table for pruned networks that it has never seen whole.

Three architectures are pruned to several sizes. The table gets their layers, one by one; its calibration is fitted to
the dense networks and uniformly slimmed ones, and then predicts the other networks. All whole networks are measured
in one session, interleaved. Processor time is compared, which other programs on the machine disturb little.

Then each architecture is pruned as a recipe would (`prune: {budget: {latency: ...}}`, with a table of its own) to
fractions of its latency, and when all are made, the results are measured beside the dense networks in three sessions
(the median of the ratios counts).
Goals: the error is at most 5 % in the median and 10 % at worst, and no pruned network takes longer than requested.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from _common import Goal, arguments, finish, table

from edgecr.core.progress import Monitor
from edgecr.data.digits import Digits
from edgecr.data.views import LearningData
from edgecr.latency import fitted
from edgecr.latency_builder.builder import Model, Prediction, TableBuilder
from edgecr.latency_builder.device_latencies import AgentLatencies
from edgecr.latency_builder.fill import exported, slimmed
from edgecr.methods.prune.method import Prune
from edgecr.models import architecture
from edgecr.runners.base import load_device
from edgecr.subject import Subject
from edgecr.surgery.planning.plan import Scope
from edgecr.surgery.planning.widths import Limits
from edgecr.training.context import StepContext

FULL = {"torchvision:resnet18": 224, "torchvision:mobilenet_v2": 224, "resnet56": 32}
QUICK = {"torchvision:resnet18": 96, "torchvision:mobilenet_v2": 96, "resnet56": 32}
CALIBRATED_WITH = (0.25, 0.5, 0.7)
REQUESTED = (0.7, 0.4)
SESSIONS = 3
"""In how many sessions pruned networks are measured afterwards; a shared machine differs from minute to minute."""
DENSE = "dense"
JUDGED: Mapping[Scope, tuple[float, ...]] = {"layer": (0.35, 0.6), "global": (0.3, 0.55)}


class Told(Monitor):
    """Says what happens, for a benchmark that takes minutes."""

    def warn(self, text: str) -> None:
        """Prints to stderr, so that the table stays clean."""
        print(text, file=sys.stderr)


def networks(name: str, side: int, folder: Path) -> tuple[list[Model], list[Model]]:
    """The networks for the calibration and those to be predicted, as files."""
    subject = Subject.create(architecture({"arch": name}), 10, (side, side), seed=0)
    label, limits = f"{name.split(':')[-1]} {side}px", Limits()
    known = {label: subject, **slimmed(subject, label, limits, CALIBRATED_WITH)}
    unknown = {
        f"{one} {scope}": cut
        for scope, fractions in JUDGED.items()
        for one, cut in slimmed(subject, label, limits, fractions, scope).items()
    }
    return tuple([exported(cut, one, 1, folder) for one, cut in some.items()] for some in (known, unknown))  # type: ignore[return-value]


def pruned_for_latencies(name: str, side: int, bench: AgentLatencies, device: str, folder: Path) -> dict[str, Subject]:
    """A network, and what a recipe would make of it for a fraction of its latency each."""
    subject = Subject.create(architecture({"arch": name}), 10, (side, side), seed=0)
    label, made = f"{name.split(':')[-1]} {side}px", {DENSE: subject}
    unused = LearningData.of(Digits(name="digits").load())  # norms of weights need no images
    for share in REQUESTED:
        context = StepContext(unused, 0, folder / f"{label} {share}", monitor=bench.monitor, latencies=bench)
        context.folder.mkdir(parents=True)
        method = Prune.parse({"score": "l2", "scope": "knapsack", "budget": {"latency": share}, "device": device})
        made[f"{label} to {share:.0%}"] = method.apply(subject, context)
    return made


def requested(sizes: Mapping[str, int], device: str, folder: Path) -> dict[str, tuple[float, float]]:
    """Fraction of its dense latency that each pruned network takes, measured afterwards, and the fraction requested."""
    bench = AgentLatencies(Told(), folder)
    families = [pruned_for_latencies(name, side, bench, device, folder) for name, side in sizes.items()]
    found: dict[str, list[float]] = {}
    for _ in range(SESSIONS):
        for family in families:
            dense, *pruned = bench.whole(device, [*family.values()], 1)
            for name, ms in zip([name for name in family if name != DENSE], pruned):
                found.setdefault(name, []).append(ms / dense)
    wanted = REQUESTED * len(families)
    return {name: (statistics.median(parts), share) for (name, parts), share in zip(found.items(), wanted)}


def main() -> int:
    """Runs the benchmark."""
    parser = arguments(__doc__)
    parser.add_argument("--device", default="cpu", help="device, by name or path")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sizes = QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory() as folder:
        figures = predictions(sizes, options.device, Path(folder))
        hits = requested(sizes, options.device, Path(folder))
    rows = [[name, asked, taken, f"{taken / asked:.1%}"] for name, (taken, asked) in hits.items()]
    print(table(["pruned for a latency", "requested part", "measured part", "of the request"], rows))
    figures["most_of_request"] = max(taken / asked for taken, asked in hits.values())
    return finish(
        "latency_prediction",
        figures,
        [Goal("median_error", at_most=0.05), Goal("worst_error", at_most=0.10), Goal("most_of_request", at_most=1.0)],
    )


def predictions(sizes: Mapping[str, int], device: str, folder: Path) -> dict[str, float]:
    """Predicts and measures networks that the calibration has not seen."""
    known: list[Model] = []
    unknown: list[Model] = []
    for name, side in sizes.items():
        both = networks(name, side, folder)
        known, unknown = known + both[0], unknown + both[1]
    with TableBuilder(load_device(device), path=folder / "table.json", monitor=Told()) as builder:
        weighed = builder.weigh([*known, *unknown])
        clock, entries = builder.table.clock, len(builder.table.entries)
    calibration = fitted(tuple(one.evidence for one in weighed[: len(known)]))
    found = [Prediction.by(calibration, one) for one in weighed[len(known) :]]
    raw = [one.evidence.sums.ms / one.evidence.measured_ms - 1 for one in weighed[len(known) :]]
    rows = [
        [one.model, one.predicted_ms, one.measured_ms, one.wall_ms, f"{one.error:+.1%}", f"{sum_error:+.1%}"]
        for one, sum_error in zip(found, raw)
    ]
    print(
        f"{entries} layers; clock: {clock}; whole = {calibration.factor:.3f} x sum "
        f"{calibration.per_layer_ms:+.4f} ms a layer {calibration.per_mega_weight_ms:+.4f} ms a million weights "
        f"{calibration.per_mega_value_ms:+.4f} ms a million activations, "
        f"fitted to {len(known)} other networks"
    )
    print(table(["network", "predicted ms", "measured ms", "elapsed ms", "error", "error of the bare sum"], rows))
    errors = [abs(one.error) for one in found]
    return {
        "networks": len(found),
        "median_error": statistics.median(errors),
        "worst_error": max(errors),
        "median_error_uncalibrated": statistics.median(map(abs, raw)),
        "worst_error_uncalibrated": max(map(abs, raw)),
        "factor": calibration.factor,
        "per_layer_ms": calibration.per_layer_ms,
        "per_mega_weight_ms": calibration.per_mega_weight_ms,
        "per_mega_value_ms": calibration.per_mega_value_ms,
    }


if __name__ == "__main__":
    sys.exit(main())
