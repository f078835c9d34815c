"""ONNX: written, cleaned and recounted by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edgecr.core.errors import FileProblem, RequestError
from edgecr.exporters.base import Artifact, Exporter, Target, Written, exporters
from edgecr.exporters.onnx.declaration import OnnxTarget

if TYPE_CHECKING:
    import numpy as np

    from edgecr.data.views import ProofData
    from edgecr.exporters.divergence import Divergence
    from edgecr.exporters.receipt import Receipt, Recount
    from edgecr.subject import Subject

FILE = "model.onnx"
OPSETS = range(18, 24)
"""The opsets that torch's exporter emits; asked for a lower one it silently emits 18."""


@exporters.register("onnx")
class OnnxExporter(Exporter[OnnxTarget]):
    """Writes ``model.onnx``."""

    target: ClassVar[type[Target]] = OnnxTarget

    def check(self, target: OnnxTarget) -> None:
        """Refuses an opset that torch does not emit."""
        if target.opset not in OPSETS:
            raise RequestError(
                f"Export target {target.name!r} asks for ONNX opset {target.opset}; EdgeCR writes opsets "
                f"{OPSETS[0]} to {OPSETS[-1]}. Set `opset:` to one of them."
            )

    def write(self, subject: Subject, target: OnnxTarget, proof: ProofData, folder: Path) -> Written:
        """Writes the one file, in float32 first."""
        from edgecr.exporters.onnx import write as onnx_write  # loads torch and onnx

        written = onnx_write.write(subject, target, proof.preprocessing, folder / FILE, task=proof.task)
        if target.storage == "compact":
            from edgecr.exporters.onnx.compact import compact

            compact(folder / FILE)
        if target.precision == "fp32":
            return written
        from edgecr.exporters.onnx.rounding import rounded  # loads the runtime's quantiser

        return rounded(written, target, proof, folder / FILE)

    def receipt(self, subject: Subject, file: Path) -> Receipt:
        """Sets the promises of the surgery beside the layers of the graph."""
        return _receipt(subject, file)

    def recount(self, artifact: Artifact, figures: Sequence[str]) -> Recount:
        """Counts the layers of the graph; its weights must lie in files that the manifest names."""
        from edgecr.predictors.onnx_weights import weights_beside

        if strange := sorted({*weights_beside(artifact.path)} - {*artifact.files}):
            raise FileProblem(f"{artifact.path} reads weights from {strange[0]}, which its manifest does not name.")
        return _contents(artifact.path, figures)

    def locate(self, subject: Subject, artifact: Artifact, images: np.ndarray, proof: ProofData) -> Divergence | None:
        """Compares the layers that bear the same name in the module and in the graph, in the order of the graph."""
        from edgecr.exporters.onnx.bisect import first_difference

        return first_difference(subject.module, artifact, proof.preprocessing, images)


def _receipt(subject: Subject, file: Path) -> Receipt:
    from edgecr.exporters.onnx.coverage import integer_work
    from edgecr.exporters.receipt import Receipt
    from edgecr.surgery.counters import count

    # Code of the user's own is allowed here: the subject could not exist had it not been allowed before.
    untouched = replace(subject, surgery=()).skeleton(allow_code=True)
    promised, promise = subject.skeleton(allow_code=True), subject.promise(allow_code=True)
    contents = _contents(file, tuple(promise.figures))
    return Receipt(
        count(untouched, subject.input_shape),
        count(promised, subject.input_shape),
        contents.file,
        contents.zero_channels,
        promise,
        contents.found,
        integer_work(file),
    )


def _contents(file: Path, figures: Sequence[str]) -> Recount:
    from edgecr.exporters.onnx.count import count_onnx, layer_weights, zero_channels
    from edgecr.exporters.receipt import Recount, recounted

    return Recount(count_onnx(file), zero_channels(file), recounted(figures, layer_weights(file)))
