"""The figures of a parity with PyTorch in words: of an exported file here, or of what a board made of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgecr.report.numbers import MISSING, PERCENT, with_unit


def parity_words(found: Mapping[str, Any], *, cosine: bool) -> str:
    """Images, largest difference and share of same answers, as far as they were taken; the cosine too if asked for."""
    if not found:
        return MISSING
    agreement = found.get("agreement")
    parts = [
        f"{found['images']} images" if "images" in found else "",
        f"largest difference {found['max_abs']:.1e}" if isinstance(found.get("max_abs"), float) else "",
        f"same class {with_unit(agreement, PERCENT)}" if isinstance(agreement, int | float) else "",
        f"cosine {found['cosine']:.4f}" if cosine and isinstance(found.get("cosine"), float) else "",
    ]
    return ", ".join(part for part in parts if part)
