"""The record of a masking: weights of each layer before and after, the totals, and the rounds."""

from __future__ import annotations

from pydantic import Field

from edgecr.core.options import Options
from edgecr.core.step_record import BudgetOutcome, Row, Shown, StepRecord

NAME = "sparsity"
ROUNDS = "rounds"


class LayerWeights(Options):
    """The weights of one layer that are not zero."""

    layer: str
    weights: int
    before: int
    after: int


class SparsityRecord(StepRecord):
    """One masking, from the model as it came to the model as it went."""

    asked: int
    """Weights that may remain of those that may go."""
    left: int
    """Those that remain."""
    params: int
    """All parameters of the model, biases and normalisations included."""
    nonzero: int
    """Those of them that are not zero."""
    macs: int
    sparse_macs: int
    """Multiply-accumulates by weights that are not zero."""
    layers: tuple[LayerWeights, ...] = ()
    skipped: dict[str, str] = Field(default_factory=dict)
    """Layers that kept all of their weights although nobody named them, and why."""

    def told(self) -> str:
        """The outcome in a sentence."""
        weights = sum(one.weights for one in self.layers)
        return (
            f"{1 - self.left / max(1, weights):.2%} of {weights:,} weights are zero. "
            f"{self.nonzero:,} of {self.params:,} parameters are left, "
            f"and {self.sparse_macs / max(1, self.macs):.1%} of the MACs."
        )

    def shown(self, name: str) -> Shown:
        """The weights of each layer as rows, the totals as facts."""
        facts = {
            "sparsity": self.told(),
            "not masked": "; ".join(f"{layer}: {why}" for layer, why in self.skipped.items()),
        }
        return Shown(
            title="Weights that are not zero",
            head=("layer", "before and after"),
            note="Zeros among single weights make small files (target onnx-compact); stock runtimes are no faster.",
            rows=tuple(Row(label=one.layer, before=one.before, value=one.after) for one in self.layers),
            facts={key: text for key, text in facts.items() if text},
            budgets=(BudgetOutcome(figure="weights that are not zero", asked=self.asked, reached=self.left),),
        )


class RoundOutcome(Options):
    """One round of masking and training."""

    sparsity: float
    """Part of the parameters of the count that is zero."""
    validation: float | None
    """Accuracy on the validation images after the round's training; None without labels or images."""


class RoundsRecord(StepRecord):
    """The rounds of an iterative masking."""

    rounds: tuple[RoundOutcome, ...]

    def shown(self, name: str) -> Shown:
        """One row a round."""
        return Shown(
            title="Rounds of masking and training",
            head=("round", "validation accuracy"),
            rows=tuple(
                Row(label=f"{number}: {one.sparsity:.2%} zero", value=_in_words(one.validation))
                for number, one in enumerate(self.rounds, 1)
            ),
        )


def _in_words(score: float | None) -> str:
    return "not looked at" if score is None else f"{score:.2%}"
