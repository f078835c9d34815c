"""Removal of channels, physically: what the exported file no longer holds, no device computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from edgecr.methods.base import methods
from edgecr.methods.prune.options import PruneOptions
from edgecr.training.context import StepContext

if TYPE_CHECKING:
    from edgecr.subject import Subject

_ADASAP = {
    "kind": "exponential",
    "start": 10,
    "steps": 41,
    "every": 30,
    "retrain": {
        "epochs": 90,
        "batch": 1024,
        "lr": 1.024,
        "momentum": 0.875,
        "weight_decay": 3.0518e-5,
        "warmup": 8,
        "decay_norm": False,
        "label_smoothing": 0.1,
        "sharpness": {
            "kind": "adasap",
            "rho_min": 2.0,
            "rho_max": 2.0,
            "phases": [{"epochs": 11, "rho_min": 0.01, "rho_max": 2.0}],
        },
    },
}


@methods.register("prune")
class Prune(PruneOptions):
    """Remove the least important channels from the layers and everything coupled to them."""

    compresses: ClassVar[bool] = True
    records: ClassVar[tuple[str, ...]] = ("plan",)
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "halp": {
            "score": "taylor_bn",
            "scope": "knapsack",
            "when": {
                "kind": "exponential",
                "steps": 30,
                "every": 40,
                "retrain": {
                    "epochs": 90,
                    "batch": 1024,
                    "lr": 1.024,
                    "momentum": 0.875,
                    "weight_decay": 3.0518e-5,
                    "decay_norm": False,
                    "label_smoothing": 0.1,
                    "warmup": 8,
                },
            },
        },
        "adasap_p": {"score": "l2", "scope": "global", "when": _ADASAP},
        "adasap_l": {"score": "taylor_bn", "scope": "knapsack", "when": _ADASAP},
    }

    def apply(self, subject: Subject, context: StepContext) -> Subject:
        """Traces, plans, removes and proves the removal right; the figures are told and logged."""
        from edgecr.methods.prune.step import Pruning

        return Pruning(self, subject, context).done()
