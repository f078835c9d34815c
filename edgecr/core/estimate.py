"""A number with its doubt; every figure EdgeCR reports is one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

SMALLEST_CLAIM = 0.01
"""A smaller difference of two times is not claimed, however sure it is."""


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

    @property
    def differs(self) -> bool:
        """True if a ratio shows a difference: its interval excludes 1, and the change is over a percent."""
        if self.low is None or self.high is None:
            return False
        return not self.low <= 1 <= self.high and abs(self.value - 1) > SMALLEST_CLAIM
