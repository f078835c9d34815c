"""A user's own ONNX file, exported elsewhere, as an artifact: it can be measured, but vouches for nothing."""

from __future__ import annotations

from pathlib import Path

from edgecr.core.errors import UnsupportedModel
from edgecr.core.files import sha256
from edgecr.exporters.base import Artifact, manifest_path


def artifact_of(path: Path) -> Artifact:
    """The artifact that a file is: its manifest where it has one, else what the file itself says."""
    if manifest_path(path).is_file():
        artifact = Artifact.load(path)
        artifact.verify()
        return artifact
    from edgecr.predictors.onnx_file import describe_onnx  # onnx is only loaded for files without a manifest

    described = describe_onnx(path)
    if len(described.inputs) != 1 or not described.outputs:
        names = ", ".join(value["name"] for value in described.inputs)
        raise UnsupportedModel(f"{path} has {len(described.inputs)} inputs ({names}); EdgeCR feeds one.")
    return Artifact(
        path=path,
        target="",
        format="onnx",
        precision="",
        sha256=sha256(path),
        size_bytes=path.stat().st_size,
        input=described.inputs[0],
        output=described.outputs[0],
        preprocessing={},
        labels=[],
        parity={},
        receipt={},
    )
