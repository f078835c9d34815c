"""Quantisation-aware training: the weights learn to be rounded before a file of 8-bit integers is made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from edgecr.core.processor import vnni
from edgecr.methods.base import methods
from edgecr.methods.train import Train
from edgecr.training.context import StepContext
from edgecr.training.options import Positive

if TYPE_CHECKING:
    from edgecr.subject import Subject
    from edgecr.training.losses import Loss

_GENTLER = 100


@methods.register("quantise")
class QuantisationAware(Train):
    """Train on with weights and activations rounded to 8 bits, at a hundredth of the usual learning rate.

    The model stays one of floats with the same layers: targets such as `onnx-int8` round it, with ranges of their own.
    Their files are as fast as without this step, and nearer to the model.
    """

    compresses: ClassVar[bool] = True

    epochs: Annotated[int, Field(ge=1)] = 3
    """Passes over the training images."""
    lr: Positive | None = None
    """Peak learning rate; 0.001 for sgd, 0.00001 for adam and adamw when left out."""
    weight_bits: Literal[8, 7] = 8
    """Bits of the rounded weights: 7 for a file with `reduce_range`, for processors without VNNI."""

    def apply(self, subject: Subject, context: StepContext) -> Subject:
        """Trains the subject's own tensors in place."""
        if self.weight_bits == 8 and vnni() is False:
            context.monitor.say(
                "This machine's processor has no VNNI, so files for it round weights to 7 bits unless their target "
                "says otherwise. If they are what ships, say weight_bits: 7."
            )
        return super().apply(subject, context)

    @property
    def rate(self) -> float:
        """The peak learning rate; a hundredth of training's own one when none was given."""
        return super().rate if self.lr is not None else super().rate / _GENTLER

    def build_loss(self, before: Subject, context: StepContext) -> Loss:
        """The declared loss of the rounded model."""
        from edgecr.training.losses.rounded import RoundedLoss

        return RoundedLoss(super().build_loss(before, context), self.weight_bits)
