"""Weights of one bit: small files, which run faster in OpenVINO where activations are bits as well."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from edgecr.methods.base import methods
from edgecr.methods.binarise.options import BinariseOptions
from edgecr.training.context import StepContext

if TYPE_CHECKING:
    from edgecr.subject import Subject


@methods.register("binarise")
class Binarise(BinariseOptions):
    """Train on with weights that the network sees as signs times one magnitude for each output channel.

    The target `onnx-compact` stores them in a bit each; runtimes compute faster with them only behind binary
    activations, and in the target `openvino-binary`. Weights that are zero stay so: a step `sparsify` before this one
    makes a compact file smaller still.
    """

    compresses: ClassVar[bool] = True
    records: ClassVar[tuple[str, ...]] = ("binary",)

    def apply(self, subject: Subject, context: StepContext) -> Subject:
        """Trains the subject's own tensors in place, behind their signs."""
        from edgecr.methods.binarise.step import binarised

        return binarised(self, subject, context)
