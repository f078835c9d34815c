"""Unpacking compact files, as ``edgecr unpack`` does. Torch-free."""

from __future__ import annotations

import os
from pathlib import Path

from edgecr.core.errors import RequestError
from edgecr.exporters.bare import artifact_of
from edgecr.exporters.onnx.compact import unpack as unpack_file


def unpack(file: Path, output: Path | None = None) -> Path:
    """Writes the plain file that a compact one was made from, beside it where no other place is given; its path.

    A file with a manifest must be the one that was exported.
    """
    artifact = artifact_of(file)
    if artifact.format != "onnx":
        raise RequestError(f"{file} is in the format {artifact.format!r}; only ONNX files are packed.")
    place = output or file.with_name(f"plain-{file.name}")
    if os.path.lexists(place):
        itself = "is the file itself" if place.exists() and place.samefile(file) else "exists already"
        raise RequestError(
            f"{place} {itself} and is not overwritten; choose another place with -o, or remove it first."
        )
    unpack_file(file, place)
    return place
