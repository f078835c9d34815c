"""Verifying exported artifacts on any machine, as ``edgecr verify`` does. Torch-free."""

from __future__ import annotations

import os
from pathlib import Path

from edgecr.exporters.verifying import Verified
from edgecr.exporters.verifying import verify as verify_artifact


def verify(path: str | os.PathLike[str], *, threads: int = 0) -> Verified:
    """Checks an exported file, or its folder, against its manifest and its stored proof; PyTorch is not needed.

    A file that is not what its manifest says is no error but a finding: look at ``status`` and ``checks``.
    """
    return verify_artifact(Path(path), threads)
