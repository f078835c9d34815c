"""The record of a ticket: the random network it was found in, and what is left of each layer."""

from __future__ import annotations

from pydantic import Field

from edgecr.core.step_record import Row, Shown, StepRecord

NAME = "ticket"


class TicketRecord(StepRecord):
    """The weights of each layer before and after, in the order of the model."""

    algorithm: str
    init: str
    sparsity: float
    """The removed share that was reached, of the layers that could lose weights."""
    before: dict[str, int]
    after: dict[str, int]
    """Weights that are left."""
    changed: dict[str, str] = Field(default_factory=dict)
    """Other parameters of the model, and what became of them."""
    warning: str = ""

    def shown(self, name: str) -> Shown:
        """The weights of each layer, before and after."""
        facts = {
            "warning": self.warning,
            "found in": f"a random network ({self.init}) by {self.algorithm}; the trained weights are gone",
            "sparsity": f"{self.sparsity:.2%}",
        } | self.changed
        return Shown(
            title="Ticket",
            head=("layer", "weights before and after"),
            rows=tuple(Row(label=layer, before=self.before[layer], value=left) for layer, left in self.after.items()),
            facts={key: text for key, text in facts.items() if text},
        )
