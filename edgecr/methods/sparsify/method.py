"""Zeros among single weights: small files, and the same work on a device without sparse kernels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from edgecr.methods.base import methods
from edgecr.methods.sparsify.options import SparsifyOptions
from edgecr.training.context import StepContext

if TYPE_CHECKING:
    from edgecr.subject import Subject


@methods.register("sparsify")
class Sparsify(SparsifyOptions):
    """Set the least important weights to zero for good; their layers keep their shapes."""

    compresses: ClassVar[bool] = True
    records: ClassVar[tuple[str, ...]] = ("sparsity",)
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "wt": {"count": "all", "when": {"kind": "iterative", "ratios": "lip_resnet20", "rewind": "rate"}},
        "sipp": {
            "score": "sipp",
            "count": "all",
            "when": {"kind": "iterative", "ratios": "lip_resnet20", "rewind": "rate"},
        },
        "asp": {"pattern": "2:4", "when": {"kind": "iterative", "rounds": 1, "rewind": "rate"}},
        "random": {"score": "random", "scope": "layer"},
        "gmp": {"when": {"kind": "cubic", "start": 0.1, "end": 0.8, "every": 100}},
        "lth": {"when": {"kind": "iterative", "fraction": 0.2, "rewind": "weights", "to": 0}},
        "lrr": {"when": {"kind": "iterative", "fraction": 0.2, "rewind": "rate"}},
        "lrr_oneshot": {"when": {"kind": "iterative", "rounds": 1, "rewind": "rate"}},
        "ft": {
            "when": {
                "kind": "iterative",
                "rounds": 1,
                "retrain": {"epochs": 40, "batch": 128, "lr": 0.001, "weight_decay": 1e-4, "schedule": "constant"},
            }
        },
    }

    def apply(self, subject: Subject, context: StepContext) -> Subject:
        """Scores the weights, masks the lowest ones, and trains or repairs what is left."""
        from edgecr.methods.sparsify.step import Sparsifying

        return Sparsifying(self, subject, context).done()
