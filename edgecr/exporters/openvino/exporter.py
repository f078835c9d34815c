"""OpenVINO: made from the ONNX file, cleaned, rounded by NNCF where asked, and recounted by layer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edgecr.core.errors import RequestError
from edgecr.core.processor import on_arm
from edgecr.exporters.base import Artifact, Exporter, Target, Written, exporters
from edgecr.exporters.openvino.declaration import OpenVinoTarget
from edgecr.exporters.target import BINARY

if TYPE_CHECKING:
    from edgecr.data.views import ProofData
    from edgecr.exporters.receipt import Receipt, Recount
    from edgecr.subject import Subject


@exporters.register("openvino")
class OpenVinoExporter(Exporter[OpenVinoTarget]):
    """Writes ``model.xml`` and ``model.bin``."""

    target: ClassVar[type[Target]] = OpenVinoTarget

    def check(self, target: OpenVinoTarget) -> None:
        """Refuses what cannot be made here: without the packages, and integers and bits on ARM."""
        from edgecr.predictors.openvino_file import require

        rounded = target.precision == "int8"
        require("openvino", *(["nncf"] if rounded else []))
        if rounded and on_arm():
            raise RequestError(
                f"Export target {target.name!r} has 8-bit integers, which OpenVINO does not compute in on an ARM "
                "processor: it converts them to floats. Use `onnx-int8-arm` there, or a target in float32."
            )

        if target.precision == BINARY and on_arm():
            raise RequestError(
                f"Export target {target.name!r} has convolutions of bits, which OpenVINO computes on x86 only. Use "
                "`onnx-compact` there, which stores the same weights in bits."
            )

    def write(self, subject: Subject, target: OpenVinoTarget, proof: ProofData, folder: Path) -> Written:
        """Writes both files, by way of an ONNX file that is not kept."""
        from edgecr.exporters.openvino.write import write  # loads torch, onnx and openvino

        return write(subject, target, proof, folder)

    def receipt(self, subject: Subject, file: Path) -> Receipt:
        """Sets the promises of the surgery beside the layers of the graph."""
        from edgecr.exporters.openvino.count import contents
        from edgecr.exporters.openvino.coverage import integer_work
        from edgecr.exporters.promised import beside_promises

        return beside_promises(subject, partial(contents, file), integer_work(file))

    def recount(self, artifact: Artifact, figures: Sequence[str]) -> Recount:
        """Counts the layers of the graph."""
        from edgecr.exporters.openvino.count import contents

        return contents(artifact.path, figures)
