"""ONNX: written, cleaned and recounted by layer."""

from __future__ import annotations

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
        from edgecr.exporters.onnx import finish, write  # load torch and onnx

        written = write.write(subject, target, proof.preprocessing, folder / FILE, task=proof.task)
        if target.precision != "fp32":
            from edgecr.exporters.onnx.rounding import rounded  # loads the runtime's quantiser

            written = rounded(written, target, proof, folder / FILE)
        return finish.finished(written, subject, target, proof, folder / FILE)

    def receipt(self, subject: Subject, file: Path) -> Receipt:
        """Sets the promises of the surgery beside the layers of the graph."""
        from edgecr.exporters.onnx.coverage import integer_work

        return receipt_of(subject, file, integer_work(file))


def receipt_of(subject: Subject, file: Path, integers: IntegerWork | None) -> Receipt:
    """The receipt of an ONNX file, with the part of its work that runs in integers."""
    from edgecr.exporters.onnx.count import count_onnx, layer_weights, zero_channels
    from edgecr.exporters.promised import beside_promises

    return beside_promises(subject, count_onnx(file), zero_channels(file), layer_weights(file), integers)
