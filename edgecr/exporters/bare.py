"""A user's own ONNX file, exported elsewhere, as an artifact: it can be measured, but vouches for nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from edgecr.core.errors import UnsupportedModel
from edgecr.exporters.artifact import Artifact, FileFacts, manifest_path, refuse_rejected, total_size

Kind = TypeVar("Kind", dict[str, Any], list[Any])


def artifact_of(path: Path) -> Artifact:
    """The artifact that a file is: its manifest where it has one, else what the file itself says."""
    refuse_rejected(path)
    if manifest_path(path).is_file():
        artifact = Artifact.load(path)
        artifact.verify()
        return artifact
    from edgecr.predictors.onnx_file import (  # onnx is only loaded for files without a manifest
        LABELS,
        PREPROCESSING,
        describe_onnx,
    )
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
        preprocessing=_note(described.notes, PREPROCESSING, {}),
        labels=[str(label) for label in _note(described.notes, LABELS, [])],
        parity={},
        receipt={},
        files=files,
    )


def _note(notes: Mapping[str, str], name: str, without: Kind) -> Kind:
    """A note inside a file, which anybody may have written; ``without`` where it is none of that kind."""
    try:
        found = json.loads(notes.get(name, "null"))
    except (ValueError, RecursionError):
        return without
    return found if isinstance(found, type(without)) else without
