"""How well a latency table predicts pruned networks that it has never seen whole.

Three architectures are pruned to several sizes. The table gets their layers, one by one; its calibration is fitted to
the dense networks and uniformly slimmed ones, and then predicts the other networks. All whole networks are measured
in one session, interleaved. Processor time is compared, which other programs on the machine disturb little.
Goals: the error is at most 5 % in the median and 10 % at worst.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from _common import Goal, arguments, finish, table

from edgecr.latency import fitted
from edgecr.models import architecture
from edgecr.progress import Monitor
from edgecr.runners.base import load_device
from edgecr.runners.latency_table import Model, Prediction, TableBuilder
from edgecr.subject import Subject
from edgecr.surgery.plan import Limits, Scope
from edgecr.tables import exported, slimmed

FULL = {"torchvision:resnet18": 224, "torchvision:mobilenet_v2": 224, "resnet56": 32}
QUICK = {"torchvision:resnet18": 96, "torchvision:mobilenet_v2": 96, "resnet56": 32}
CALIBRATED_WITH = (0.25, 0.5, 0.7)
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


def main() -> int:
    """Runs the benchmark."""
    parser = arguments(__doc__)
    parser.add_argument("--device", default="cpu", help="device, by name or path")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        known: list[Model] = []
        unknown: list[Model] = []
        for name, side in (QUICK if options.quick else FULL).items():
            both = networks(name, side, Path(folder))
            known, unknown = known + both[0], unknown + both[1]
        with TableBuilder(load_device(options.device), path=Path(folder) / "table.json", monitor=Told()) as builder:
            weighed = builder.weigh([*known, *unknown])
            clock, entries = builder.table.clock, len(builder.table.entries)
    calibration = fitted(tuple(one.evidence for one in weighed[: len(known)]))
    found = [Prediction.by(calibration, one) for one in weighed[len(known) :]]
    raw = [one.evidence.sums.ms / one.evidence.measured_ms - 1 for one in weighed[len(known) :]]
    rows = [[one.model, one.predicted_ms, one.measured_ms, one.wall_ms, f"{one.error:+.1%}", f"{sum_error:+.1%}"]
            for one, sum_error in zip(found, raw)]
    print(f"{entries} layers; clock: {clock}; whole = {calibration.factor:.3f} x sum "
          f"{calibration.per_layer_ms:+.4f} ms a layer {calibration.per_mega_weight_ms:+.4f} ms a million weights, "
          f"fitted to {len(known)} other networks")
    print(table(["network", "predicted ms", "measured ms", "elapsed ms", "error", "error of the bare sum"], rows))
    errors = [abs(one.error) for one in found]
    figures = {
        "networks": len(found),
        "median_error": statistics.median(errors),
        "worst_error": max(errors),
        "median_error_uncalibrated": statistics.median(map(abs, raw)),
        "worst_error_uncalibrated": max(map(abs, raw)),
        "factor": calibration.factor,
        "per_layer_ms": calibration.per_layer_ms,
        "per_mega_weight_ms": calibration.per_mega_weight_ms,
    }
    return finish("latency_prediction", figures,
                  [Goal("median_error", at_most=0.05), Goal("worst_error", at_most=0.10)])


if __name__ == "__main__":
    sys.exit(main())
