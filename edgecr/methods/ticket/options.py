"""The options of a ticket, and what they decide. Torch-free: recipes are checked with them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from edgecr.methods.train import TrainingMethod

_RAMP = 10
"""Epochs until the asked share of weights is gone, where all scores are ranked together."""
_HALF = 0.5
"""Share of the weights that is gone in the first epoch of a ramp."""


class TicketOptions(TrainingMethod):
    """The random network, the share of it that goes, and how the rest is found."""

    algorithm: Literal["edge_popup", "biprop"] = "edge_popup"
    """Form of the weights that are found: as they are (Ramanujan et al. 2020), or as signs with one magnitude for each
    layer (Diffenderfer and Kailkhura 2021)."""
    sparsity: Annotated[float, Field(gt=0, lt=1)]
    """Fraction of the weights that is removed."""
    scope: Literal["layer", "global"] = "layer"
    """Remove the same share of every layer, or rank the scores of all layers together."""
    ramp: Annotated[int, Field(ge=0)] | None = None
    """Epochs in which the removed share grows from a half to the sparsity, with scope: global; 10, or a third of a
    shorter training when left out."""
    init: Literal["kaiming_normal", "signed_constant"] = "signed_constant"
    """Random weights: normally distributed, or of one size with random signs."""
    scale_fan: Literal["none", "keep", "legacy"] = "none"
    """Enlarge the weights for the inputs that will be left: not at all, by the kept share, or as the code of the papers
    does, which takes the removed share for it."""
    affine: Literal["frozen", "learned"] = "frozen"
    """Scales and shifts of normalisations: 1 and 0, or learned."""
    exclude: tuple[str, ...] = ()
    """Layers that keep all of their random weights, as name patterns: ``layer1``, ``*.conv2``."""

    @model_validator(mode="after")
    def _has_a_ramp(self) -> Self:
        if self.ramp is not None and self.scope == "layer":
            raise ValueError("ramp does nothing with scope: layer; leave it out, or use scope: global")
        if self.ramp and self.sparsity <= _HALF:
            raise ValueError(f"ramp begins at {_HALF:g} and does nothing at a sparsity up to that; leave it out")
        if self.ramp_epochs >= self.epochs:
            raise ValueError(f"ramp ({self.ramp_epochs}) must end within the {self.epochs} epochs")
        if self.ramp_epochs and self.keep == "best":
            raise ValueError("keep: best might choose an epoch of the ramp; use keep: last, or ramp: 0")
        return self

    @property
    def ramp_epochs(self) -> int:
        """Epochs before the sparsity is what was asked."""
        if self.scope == "layer" or self.sparsity <= _HALF:
            return 0
        return min(_RAMP, self.epochs // 3) if self.ramp is None else self.ramp

    def sparsity_in(self, epoch: int) -> float:
        """The removed share in an epoch, counted from 0."""
        left = max(0.0, 1 - epoch / self.ramp_epochs) if self.ramp_epochs else 0.0
        return self.sparsity + (_HALF - self.sparsity) * left**3

    @property
    def promises(self) -> tuple[str, ...]:
        """Zeros, and with biprop binary weights, which later trainings keep."""
        return ("zeros", "binary") if self.algorithm == "biprop" else ("zeros",)

    def misplaced(self, promised: Collection[str]) -> str:
        """The random weights of a ticket keep no promise of earlier ones."""
        if not promised:
            return ""
        return (
            f"A ticket starts from new random weights, but an earlier step promised {' and '.join(sorted(promised))} "
            "in the old ones. Put ticket before that step, or leave one of them out."
        )
