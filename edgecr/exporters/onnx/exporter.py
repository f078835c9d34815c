"""ONNX: written, cleaned and recounted by layer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edgecr.core.errors import FileProblem, RequestError
from edgecr.exporters.base import AnyTargetOf, Artifact, Exporter, Target, Written, exporters
from edgecr.exporters.onnx.declaration import OnnxTarget

if TYPE_CHECKING:
    import numpy as np

    from edgecr.data.views import ProofData
    from edgecr.exporters.divergence import Divergence
    from edgecr.exporters.integers import IntegerWork
    from edgecr.exporters.receipt import Receipt, Recount
    from edgecr.subject import Subject

FILE = OnnxTarget.main
OPSETS = range(13, 24)
"""The opsets that are written: those that torch's exporter emits, and older ones that its file is put into."""


class OnnxFileExporter(Exporter[AnyTargetOf]):
    """An exporter whose main file is an ONNX file, whoever runs it."""

    @abstractmethod
    def integers(self, file: Path) -> IntegerWork | None:
        """The part of the file's work that its runtime does in integers; None for a file of floats."""

    def receipt(self, subject: Subject, file: Path) -> Receipt:
        """Sets the promises of the surgery beside the layers of the graph."""
        from edgecr.exporters.promised import beside_promises

        return beside_promises(subject, partial(_contents, file), self.integers(file))

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


@exporters.register("onnx")
class OnnxExporter(OnnxFileExporter[OnnxTarget]):
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
        written = finish.finished(written, subject, target, proof, folder / FILE)
        if target.storage == "compact":
            from edgecr.exporters.onnx.compact import compact

            compact(folder / FILE)
        return written

    def integers(self, file: Path) -> IntegerWork | None:
        """The integer part of the graph that ONNX Runtime makes of the file on this machine."""
        from edgecr.exporters.onnx.coverage import integer_work

        return integer_work(file)


def _contents(file: Path, figures: Sequence[str]) -> Recount:
    from edgecr.exporters.onnx.count import count_onnx, layer_weights, zero_channels
    from edgecr.exporters.receipt import Recount, recounted

    return Recount(count_onnx(file), zero_channels(file), recounted(figures, layer_weights(file)))
