"""Weights of one bit: small files, which standard runtimes unpack and run no faster."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from edgecr.methods.base import methods
from edgecr.methods.train import Train
from edgecr.training.context import StepContext

if TYPE_CHECKING:
    from edgecr.subject import Subject


@methods.register("binarise")
class Binarise(Train):
    """Train on with weights that the network sees as signs times one magnitude for each output channel.

    The target `onnx-compact` stores them in a bit each; no runtime computes faster with them. Weights that are zero
    stay so: a step `sparsify` before this one makes the file smaller still.
    """

    compresses: ClassVar[bool] = True
    records: ClassVar[tuple[str, ...]] = ("binary",)

    scale: Literal["channel", "tensor"] = "channel"
    """Weights that share a magnitude: those of an output channel, or of the whole layer."""
    ends: bool = False
    """Binarise the first and the last layer too, which cost the most accuracy and hold few of the weights."""
    exclude: tuple[str, ...] = ()
    """Layers that stay as they are, as name patterns: ``layer1``, ``*.conv2``."""

    @property
    def promises(self) -> tuple[str, ...]:
        """Binary weights, which later trainings keep."""
        return ("binary",)

    def apply(self, subject: Subject, context: StepContext) -> Subject:
        """Trains the subject's own tensors in place, behind their signs."""
        from edgecr.methods.binarise.step import binarised

        return binarised(self, subject, context)
