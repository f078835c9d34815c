"""A user's own ONNX file, exported elsewhere, as an artifact: it can be measured, but vouches for nothing."""

from __future__ import annotations

from pathlib import Path

from edgecr.core.errors import UnsupportedModel
from edgecr.exporters.artifact import Artifact, FileFacts, manifest_path, refuse_rejected, total_size


def artifact_of(path: Path) -> Artifact:
    """The artifact that a file is: its manifest where it has one, else what the file itself says."""
    refuse_rejected(path)
    if manifest_path(path).is_file():
        artifact = Artifact.load(path)
        artifact.verify()
        return artifact
    from edgecr.predictors.onnx_file import describe_onnx  # onnx is only loaded for files without a manifest
    from edgecr.predictors.onnx_weights import weights_beside

    described = describe_onnx(path)
    if len(described.inputs) != 1 or not described.outputs:
        names = ", ".join(value["name"] for value in described.inputs)
        raise UnsupportedModel(f"{path} has {len(described.inputs)} inputs ({names}); EdgeCR feeds one.")
    main, files = FileFacts.of(path), {name: FileFacts.of(path.parent / name) for name in weights_beside(path)}
    return Artifact(
        path=path,
        target="",
        format="onnx",
        precision="",
        sha256=main.sha256,
        size_bytes=total_size(main, files),
        input=described.inputs[0],
        outputs=described.outputs,
        preprocessing={},
        labels=[],
        parity={},
        receipt={},
        files=files,
    )
