"""Any exported file held against the documents of the runtime that a target is for."""

from __future__ import annotations

from pathlib import Path

from edgecr.exporters import exporters, load_target
from edgecr.exporters.readiness import Readiness


def readiness(target: str, file: Path | str) -> Readiness:
    """The findings on a file, as ``edgecr targets check`` prints them; nothing is run."""
    declared = load_target(target)
    return exporters.get(declared.format)().ready(declared, Path(file))
