"""Cross-entropy: the loss of a classification by its labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from edgecr.training.losses.base import Loss, LossOptions, losses

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgecr.subject import Subject
    from edgecr.training.context import StepContext

Smoothing = Annotated[float, Field(ge=0, lt=1)]


@losses.register("cross_entropy")
class CrossEntropyOptions(LossOptions):
    """Cross-entropy with the labels."""

    label_smoothing: Smoothing = 0.0
    """Share of the target that is spread over all classes."""

    def build(self, before: Subject, context: StepContext) -> Loss:
        """Needs nothing but its option."""
        return CrossEntropy(self.label_smoothing)


class CrossEntropy(Loss):
    """The mean cross-entropy of a batch, and the images whose class was named."""

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = label_smoothing

    def step(self, model: nn.Module, views: Sequence[Tensor], targets: Any) -> tuple[Tensor, Tensor]:
        """One pass over the images; targets are class indices."""
        logits = model(views[0])
        return self.of(logits, targets), right(logits, targets)

    def of(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean over the batch."""
        from torch.nn import functional

        return functional.cross_entropy(logits.float(), labels, label_smoothing=self.label_smoothing)

    def identity(self) -> dict[str, Any]:
        """Its smoothing."""
        return {"loss": "cross-entropy", "label_smoothing": self.label_smoothing}


def right(logits: Tensor, labels: Tensor) -> Tensor:
    """1 for each image whose class has the largest logit, 0 for the others."""
    return logits.detach().argmax(dim=1) == labels
