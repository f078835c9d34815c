"""Plain training with the labels: how a baseline comes to be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from edgecr.methods.base import Method, methods
from edgecr.training.context import StepContext
from edgecr.training.losses import completed
from edgecr.training.options import TrainOptions

if TYPE_CHECKING:
    from edgecr.subject import Subject


class TrainingMethod(TrainOptions, Method):
    """The options of every step that is one training."""

    @classmethod
    def resolve(cls, options: dict[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
        """Completes what the loss says from the recipe."""
        return completed(options, recipe)


@methods.register("train")
class Train(TrainingMethod):
    """Train the model on the labels with cross-entropy, or with another loss."""

    snapshots: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Updates after which the model's state is kept, for a later step that goes back to it; 0 is before the first."""

    def apply(self, subject: Subject, context: StepContext) -> Subject:
        """Trains the subject's own tensors in place."""
        from edgecr.training.loop import fit
        from edgecr.training.observers import Keeping

        keeping = [Keeping(context.folder, self.snapshots)] if self.snapshots else []
        fit(subject.module, self, self.build_loss(subject, context), context, keeping, surgery=subject.surgery)
        return subject
