"""Plain training with the labels: how a baseline comes to be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgecr.methods.base import Method, methods
from edgecr.training.context import StepContext
from edgecr.training.losses import completed
from edgecr.training.options import TrainOptions

if TYPE_CHECKING:
    from edgecr.subject import Subject


@methods.register("train")
class Train(TrainOptions, Method):
    """Train the model on the labels with cross-entropy, or with another loss."""

    @classmethod
    def resolve(cls, options: dict[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
        """Completes what the loss says from the recipe."""
        return completed(options, recipe)

    def apply(self, subject: Subject, context: StepContext) -> Subject:
        """Trains the subject's own tensors in place."""
        from edgecr.training.loop import fit

        fit(subject.module, self, self.build_loss(subject, context), context, surgery=subject.surgery)
        return subject
