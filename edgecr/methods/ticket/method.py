"""A network within random weights: nothing is learnt but what weights belong to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from edgecr.methods.base import methods
from edgecr.methods.ticket.options import TicketOptions
from edgecr.training.context import StepContext

if TYPE_CHECKING:
    from edgecr.subject import Subject


@methods.register("ticket")
class Ticket(TicketOptions):
    """Throw the trained weights away, and find the part of a random network that answers best.

    Scores of the weights learn, the weights never do. What remains of them fits in small files of the target
    `onnx-compact`; no runtime computes faster with it.
    """

    compresses: ClassVar[bool] = True
    records: ClassVar[tuple[str, ...]] = ("ticket",)
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "edge_popup": {
            "algorithm": "edge_popup",
            "init": "signed_constant",
            "epochs": 100,
            "batch": 256,
            "lr": 0.1,
            "momentum": 0.9,
            "weight_decay": 5e-4,
        },
        "biprop": {
            "algorithm": "biprop",
            "init": "kaiming_normal",
            "epochs": 100,
            "batch": 256,
            "lr": 0.1,
            "momentum": 0.9,
            "weight_decay": 5e-4,
        },
    }

    def apply(self, subject: Subject, context: StepContext) -> Subject:
        """Finds the ticket in a fresh network of the subject's structure."""
        from edgecr.methods.ticket.step import found

        return found(self, subject, context)
