"""The integer part of a file's work, as part of its receipt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ENOUGH = 0.9
"""Share of a file's work in integers below which its receipt warns."""
_NAMED = 5


@dataclass(frozen=True)
class IntegerWork:
    """Multiply-accumulates that a runtime does in integers, and those that it does not."""

    macs: int
    all_macs: int
    float_layers: Mapping[str, int]
    """The multiply-accumulates of each layer that runs in floats."""
    pairs: int
    """Conversions between floats and integers that are left where the runtime cannot fuse them."""
    kernels: str
    """The processors whose kernels were asked for."""
    saturates: bool
    """True where sums of products may overflow on this machine: other answers than on a newer processor."""

    @property
    def share(self) -> float:
        """The part of the work that is done in integers."""
        return self.macs / self.all_macs if self.all_macs else 0.0

    def warnings(self) -> list[str]:
        """Remarks on a file that is hardly one of integers, or that other processors answer otherwise."""
        found = []
        if self.share < ENOUGH:
            largest = sorted(self.float_layers, key=lambda name: -self.float_layers[name])
            rest = f" and {len(largest) - _NAMED} more" if len(largest) > _NAMED else ""
            found.append(
                f"only {self.share:.0%} of the multiply-accumulates run in integers; in floats run "
                f"{', '.join(largest[:_NAMED])}{rest}"
            )
        if self.saturates:
            found.append(
                "uint8 x int8 with 8-bit weights on a processor without VNNI, where sums saturate: its answers differ "
                "from those of a newer processor; set `quantise: reduce_range` to auto or true"
            )
        return found

    def plain(self) -> dict[str, Any]:
        """The figures as plain JSON values."""
        return {
            "macs": self.macs,
            "share": self.share,
            "float_layers": dict(self.float_layers),
            "conversions": self.pairs,
            "kernels": self.kernels,
            "saturates": self.saturates,
        }
