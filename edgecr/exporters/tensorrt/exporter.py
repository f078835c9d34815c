"""TensorRT: the ONNX file as the versions of a JetPack read it, checked against their documents, with its build."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edgecr.core.errors import ExportRefused, UnsupportedModel
from edgecr.core.files import write_json
from edgecr.exporters.base import Target, Written, exporters
from edgecr.exporters.onnx.exporter import FILE, OnnxFileExporter
from edgecr.exporters.tensorrt import build
from edgecr.exporters.tensorrt.declaration import TensorRtTarget

if TYPE_CHECKING:
    import onnx

    from edgecr.data.views import ProofData
    from edgecr.exporters.integers import IntegerWork
    from edgecr.exporters.readiness import Readiness
    from edgecr.subject import Subject


@exporters.register("tensorrt")
class TensorRtExporter(OnnxFileExporter[TensorRtTarget]):
    """Writes ``model.onnx`` and ``build.json``; the engine is for the board to build."""

    target: ClassVar[type[Target]] = TensorRtTarget

    def write(self, subject: Subject, target: TensorRtTarget, proof: ProofData, folder: Path) -> Written:
        """Writes the ONNX file as every version of the JetPack takes it, and the flags of the build."""
        from edgecr.exporters.onnx import finish  # loads torch and onnx
        from edgecr.exporters.onnx import write as onnx_write
        from edgecr.exporters.onnx.opset import RULES
        from edgecr.exporters.onnx.rounding import rounded, seen_beyond_half
        from edgecr.exporters.tensorrt.sparsity import eligible
        from edgecr.predictors.onnx_file import read_onnx

        file, onnx_target = folder / FILE, target.onnx()
        lacking = {name for name in RULES if any(name not in version.operators for version in target.versions)}
        written = onnx_write.write(subject, onnx_target, proof.preprocessing, file, proof.task, lacking)
        if not target.strongly_typed and target.precision != "fp32":
            model = read_onnx(file)
            self._refuse_out_of_range(model, target, seen_beyond_half(model, onnx_target, proof))
        if onnx_target.precision != "fp32":
            written = rounded(written, onnx_target, proof, file)
        written = finish.finished(written, subject, onnx_target, proof, file)
        if problems := self.ready(target, file).problems:
            raise ExportRefused(
                f"TensorRT would not build the file as target {target.name!r} asks, as far as its documents tell, "
                f"so it was not kept: {'; '.join(problems)}."
            )
        sparse = [name for name, _ in eligible(file)] if target.sparsity else []
        write_json(folder / build.FILE, build.recipe(target, FILE, written.input, sparse))
        return written

    def _refuse_out_of_range(self, model: onnx.ModelProto, target: TensorRtTarget, beyond: dict[str, float]) -> None:
        """Refuses values that a builder which makes float16 by itself would turn into infinity."""
        from edgecr.exporters.onnx.half import out_of_range

        if beyond:
            raise UnsupportedModel(
                f"TensorRT of JetPack {target.jetpack} makes float16 by itself, and this model is too large for it: "
                f"{'; '.join(out_of_range(model, beyond).values())}. Choose a target with precision: fp32."
            )

    def integers(self, file: Path) -> IntegerWork | None:
        """The layers that the file asks the builder to run in integers."""
        from edgecr.exporters.tensorrt.integers import integer_work

        return integer_work(file)

    def ready(self, target: TensorRtTarget, file: Path) -> Readiness:
        """Holds any ONNX file against the documents of the versions of TensorRT that the target is for."""
        from edgecr.exporters.tensorrt.readiness import readiness

        return readiness(file, target)
