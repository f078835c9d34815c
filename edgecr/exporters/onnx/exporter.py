"""ONNX: written, cleaned, compared with PyTorch, recounted, and only then put in place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecr.core.errors import ExportRefused, FileProblem, RequestError, UnsupportedModel
from edgecr.core.files import replacing, sha256, storage_errors, write_json
from edgecr.exporters.base import PARITY_IMAGES, Artifact, Exporter, Target, exporters, manifest_path

if TYPE_CHECKING:
    import numpy as np

    from edgecr.data.base import Preprocessing
    from edgecr.data.views import ProofData
    from edgecr.exporters.onnx.write import Written
    from edgecr.exporters.parity import ParityResult
    from edgecr.exporters.receipt import Receipt
    from edgecr.subject import Subject

OPSETS = range(18, 24)
"""What torch's exporter emits; asked for less it silently gives 18."""


@exporters.register("onnx")
class OnnxExporter(Exporter):
    """Writes ``model.onnx`` and its manifest, or ``refused.json`` with the reasons."""

    def export(
        self,
        subject: Subject,
        target: Target,
        proof: ProofData,
        folder: Path,
        lineage: dict[str, Any],
    ) -> Artifact:
        """Exports for a target; a file that fails parity or its receipt is not left in the folder."""
        self.check(target)
        samples, preprocessing = proof.parity(PARITY_IMAGES), proof.preprocessing
        if len(samples) == 0:
            raise RequestError("An export needs at least one real image to compare the file with PyTorch.")
        path = folder / "model.onnx"
        evidence: dict[str, Any] = {}
        try:
            with replacing(path) as temporary:
                written = _proven(subject, target, samples, preprocessing, temporary, evidence)
                _clear(path)
                artifact = Artifact(
                    path=path,
                    target=target.name,
                    format=target.format,
                    precision=target.precision,
                    sha256=sha256(temporary),
                    size_bytes=temporary.stat().st_size,
                    input=written.input,
                    output=written.output,
                    preprocessing=_recorded(preprocessing, target),
                    labels=list(proof.classes),
                    parity=evidence["parity"],
                    receipt=evidence["receipt"],
                    lineage=lineage | {"made_with": written.made_with},
                )
        except ExportRefused as error:
            _clear(path)
            write_json(
                path.with_name("refused.json"),
                {"schema": 1, "target": target.name, "reason": str(error)} | evidence,
            )
            raise
        artifact.save()
        return artifact

    def check(self, target: Target) -> None:
        """Refuses an opset that torch does not emit."""
        if target.opset not in OPSETS:
            raise RequestError(
                f"Export target {target.name!r} asks for ONNX opset {target.opset}; EdgeCR writes opsets "
                f"{OPSETS[0]} to {OPSETS[-1]}. Set `opset:` to one of them."
            )


def _proven(
    subject: Subject,
    target: Target,
    samples: np.ndarray,
    preprocessing: Preprocessing,
    file: Path,
    evidence: dict[str, Any],
) -> Written:
    """Writes the file and proves it; what was found lies in ``evidence``, also when the file is refused."""
    from edgecr.exporters.onnx import write as onnx_write  # torch and onnx are loaded only when something is exported
    from edgecr.exporters.parity import failures

    written = onnx_write.write(subject, target, preprocessing, file)
    receipt = _receipt(subject, file)
    evidence["receipt"] = receipt.plain()
    parity = _parity(subject, target, samples, preprocessing, file)
    evidence["parity"] = parity.plain()
    reasons = [
        *(f"receipt: {why}" for why in receipt.failures()),
        *(f"parity: {why}" for why in failures(parity, target.parity)),
    ]
    if reasons:
        raise ExportRefused(
            f"The file for target {target.name!r} is not what the model is, so it was not kept: "
            + "; ".join(reasons)
            + "."
        )
    return written


def _parity(
    subject: Subject, target: Target, samples: np.ndarray, preprocessing: Preprocessing, file: Path
) -> ParityResult:
    from edgecr.exporters.parity import compare
    from edgecr.predictors.onnx_predictor import OnnxPredictor
    from edgecr.predictors.torch_predictor import TorchPredictor

    reference = TorchPredictor(subject.module, preprocessing)
    try:
        exported = OnnxPredictor(file, preprocessing, target.embed_preprocessing)
        return compare(reference, exported, samples, target.parity)
    except (FileProblem, UnsupportedModel) as error:
        why = str(error).replace(str(file), "it")
        raise ExportRefused(f"The file for target {target.name!r} does not run: {why}") from error


def _receipt(subject: Subject, file: Path) -> Receipt:
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
    )


def _clear(path: Path) -> None:
    """Takes away what an earlier export left: no manifest may stand beside a file it does not describe."""
    with storage_errors(path):
        for old in (manifest_path(path), path, path.with_name("refused.json")):
            old.unlink(missing_ok=True)


def _recorded(preprocessing: Preprocessing, target: Target) -> dict[str, Any]:
    return {
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
        "size": list(preprocessing.size),
        "embedded": target.embed_preprocessing,
    }
