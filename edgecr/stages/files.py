"""Exported files that a user names, and the runtime that they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from edgecr.core.errors import RequestError
from edgecr.exporters import Artifact, runtimes_of
from edgecr.exporters.bare import artifact_of
from edgecr.report.result import BASELINE, CANDIDATE
from edgecr.runners.device import Device


def named_files(files: Sequence[Path]) -> dict[str, Artifact]:
    """The artifacts of one file, or of two: the baseline first, then the candidate."""
    if len(files) > 2:
        raise RequestError("Give one exported file, or two: the baseline first, then the candidate.")
    roles = (BASELINE, CANDIDATE) if len(files) == 2 else (CANDIDATE,)
    return {role: artifact_of(file) for role, file in zip(roles, files)}


def shared_runtime(artifacts: Mapping[str, Artifact], device: Device) -> str:
    """The first runtime of the device that runs all of the files."""
    formats = list(dict.fromkeys(artifact.format for artifact in artifacts.values()))
    known = [runtimes_of(each) for each in formats]
    shared = tuple(name for name in known[0] if all(name in others for others in known))
    if not shared:
        raise RequestError(f"No runtime runs files of both formats, {' and '.join(formats)}; measure them apart.")
    return device.runtime_name(*shared)
