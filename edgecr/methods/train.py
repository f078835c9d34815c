"""Plain training with the labels: how a baseline comes to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecr.methods.base import Method, methods
from edgecr.training.context import StepContext
from edgecr.training.options import TrainOptions

if TYPE_CHECKING:
    from edgecr.subject import Subject


@methods.register("train")
class Train(TrainOptions, Method):
    """Train the model on the labels with cross-entropy."""

    def apply(self, subject: Subject, context: StepContext) -> Subject:
        """Trains the subject's own tensors in place."""
        from edgecr.training.loop import fit
        from edgecr.training.losses import CrossEntropy

        fit(subject.module, self, CrossEntropy(self.label_smoothing), context)
        return subject
