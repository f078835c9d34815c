"""Rounding a written float32 file to fewer bits, in its place and without a word on the terminal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from edgecr.data.views import ProofData
from edgecr.exporters.base import Written
from edgecr.exporters.onnx.declaration import OnnxTarget
from edgecr.exporters.onnx.half import halved
from edgecr.exporters.onnx.quantise import VERSION, quantised
from edgecr.exporters.onnx.write import check, cleaned, silence
from edgecr.predictors.onnx_file import read_onnx


def rounded(written: Written, target: OnnxTarget, proof: ProofData, file: Path) -> Written:
    """Writes the file anew in the precision of the target; the caller proves its numbers."""
    model, facts = read_onnx(file), dict[str, Any]()
    if target.precision == "fp16":
        made = halved(model)
    else:
        with silence():
            made, facts = quantised(model, target, proof)
    made = cleaned(made)
    check(made, target)
    file.write_bytes(made.SerializeToString(deterministic=True))
    return replace(written, made_with=written.made_with | {"onnxruntime": VERSION}, rounding=facts)
