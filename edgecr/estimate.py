"""A number with its doubt; every figure EdgeCR reports is one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Estimate:
    """A point value, its confidence interval (None when the data cannot support one) and what it rests on."""

    value: float
    low: float | None = None
    high: float | None = None
    confidence: float | None = None
    unit: str = ""
    samples: int = 0
    note: str = ""

    def plain(self) -> dict[str, Any]:
        """The estimate as plain JSON values."""
        return asdict(self)
