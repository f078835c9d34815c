"""The place where a file begins to differ from its model, as a refused export tells of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Divergence:
    """The first layer of a file whose outputs are not the model's."""

    layer: str
    """The module's name; empty where all layers that were compared agree."""
    difference: float
    """The largest difference of its outputs, relative to the largest of them; of all layers where they agree."""
    compared: int
    """Layers that were compared, from the first on."""

    @property
    def words(self) -> str:
        """The finding as the end of a sentence."""
        if not self.layer:
            return f"all {self.compared} layers that were compared agree, so it differs behind or between them"
        before = f"after {self.compared - 1} that agree" if self.compared > 1 else "with none before it"
        return f"the first layer that differs is {self.layer}, {before}: by {self.difference:.1e} of its largest number"

    def plain(self) -> dict[str, Any]:
        """The finding as plain JSON values."""
        return asdict(self)
