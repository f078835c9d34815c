"""ONNX: written, cleaned and recounted by layer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edgecr.core.errors import RequestError
from edgecr.exporters.base import Exporter, Target, Written, exporters
from edgecr.exporters.onnx.declaration import OnnxTarget

if TYPE_CHECKING:
    from edgecr.data.views import ProofData
    from edgecr.exporters.integers import IntegerWork
    from edgecr.exporters.receipt import Receipt
    from edgecr.subject import Subject

FILE = "model.onnx"
OPSETS = range(13, 24)
"""The opsets that are written: those that torch's exporter emits, and older ones that its file is put into."""


@exporters.register("onnx")
class OnnxExporter(Exporter[OnnxTarget]):
    """Writes ``model.onnx``."""

    target: ClassVar[type[Target]] = OnnxTarget

    def check(self, target: OnnxTarget) -> None:
        """Refuses an opset that cannot be written."""
        if target.opset not in OPSETS:
            raise RequestError(
                f"Export target {target.name!r} asks for ONNX opset {target.opset}; EdgeCR writes opsets "
                f"{OPSETS[0]} to {OPSETS[-1]}. Set `opset:` to one of them."
            )

    def write(self, subject: Subject, target: OnnxTarget, proof: ProofData, folder: Path) -> Written:
        """Writes the one file, in float32 first."""
        from edgecr.exporters.onnx import write as onnx_write  # loads torch and onnx

        written = onnx_write.write(subject, target, proof.preprocessing, folder / FILE, task=proof.task)
        if target.precision == "fp32":
            return written
        from edgecr.exporters.onnx.rounding import rounded  # loads the runtime's quantiser

        return rounded(written, target, proof, folder / FILE)

    def receipt(self, subject: Subject, file: Path) -> Receipt:
        """Sets the promises of the surgery beside the layers of the graph."""
        from edgecr.exporters.onnx.coverage import integer_work

        return receipt_of(subject, file, integer_work(file))


def receipt_of(subject: Subject, file: Path, integers: IntegerWork | None) -> Receipt:
    """The receipt of an ONNX file, with the part of its work that runs in integers."""
    from edgecr.exporters.onnx.count import count_onnx, layer_weights, zero_channels
    from edgecr.exporters.receipt import Receipt, recounted
    from edgecr.surgery.counters import count

    # Code of the user's own is allowed here: the subject could not exist had it not been allowed before.
    untouched = replace(subject, surgery=()).skeleton(allow_code=True)
    promised, promise = subject.skeleton(allow_code=True), subject.promise(allow_code=True)
    return Receipt(
        count(untouched, subject.input_shape),
        count(promised, subject.input_shape),
        count_onnx(file),
        zero_channels(file),
        promise,
        recounted(promise, layer_weights(file)),
        integers,
    )
