"""The record of a repair: the images it looked at, what each layer gained, and what the whole model answers alike."""

from __future__ import annotations

from pydantic import Field

from edgecr.core.options import Options
from edgecr.core.step_record import Row, Shown, StepRecord

NAME = "repair"


class LayerError(Options):
    """The squared error of one layer's outputs on the sample, as a share of their variance."""

    layer: str
    before: float
    after: float


class RepairRecord(StepRecord):
    """One repair, layer by layer in running order."""

    images: int
    positions: int
    ridge: float
    layers: tuple[LayerError, ...] = ()
    skipped: dict[str, str] = Field(default_factory=dict)
    """Layers that were not repaired, and why."""
    looked_at: int = 0
    """Validation images that both models were asked."""
    agreed: int = 0
    """Those that the cut model answered as the one before the cut."""
    agrees: int = 0
    """The same of the repaired model."""

    def told(self) -> str:
        """The outcome in a sentence."""
        if not self.looked_at:
            return f"Repaired {len(self.layers)} layers with {self.images} images."
        before, after = self.agreed / self.looked_at, self.agrees / self.looked_at
        return (
            f"Repaired {len(self.layers)} layers with {self.images} images: agreement with the model before the "
            f"removal rises from {before:.1%} to {after:.1%} of {self.looked_at} validation images."
        )

    def shown(self, name: str) -> Shown:
        """The error of each layer before and after, in percent of its outputs' variance."""
        facts = {
            "repaired with": f"{self.images} images, {self.positions} positions each, ridge {self.ridge:g}",
            "agreement with the model before": self._agreement(),
            "not repaired": "; ".join(f"{layer}: {why}" for layer, why in self.skipped.items()),
        }
        return Shown(
            title="Repair",
            head=("layer", "error before and after"),
            note="Squared error of a layer's outputs on the sample, as a share of their variance.",
            rows=tuple(
                Row(label=one.layer, before=f"{one.before:.2%}", value=f"{one.after:.2%}") for one in self.layers
            ),
            facts={key: text for key, text in facts.items() if text},
        )

    def _agreement(self) -> str:
        if not self.looked_at:
            return ""
        return f"{self.agreed / self.looked_at:.1%} to {self.agrees / self.looked_at:.1%} of {self.looked_at} images"
