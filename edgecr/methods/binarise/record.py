"""The record of a binarisation: the layers whose weights are signs now, and those that are not."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from edgecr.core.step_record import Row, Shown, StepRecord

NAME = "binary"


class BinaryRecord(StepRecord):
    """The weights of each layer that became signs, in the order of the model."""

    scale: str
    """Weights that share a magnitude."""
    layers: dict[str, int]
    """Binary weights by layer."""
    left_out: dict[str, str] = Field(default_factory=dict)
    """Layers that stay as they are, and why."""
    weights: int
    """Weights of all layers."""
    signs_in: tuple[str, ...] = ()
    """Layers that see the signs of their inputs."""
    floats_in: dict[str, str] = Field(default_factory=dict)
    """Binary layers that should see signs and cannot, and why."""
    warning: str = ""

    def told(self) -> str:
        """The outcome in a sentence."""
        share = sum(self.layers.values()) / max(1, self.weights)
        signs = f" {len(self.signs_in)} of them see binary activations." if self.signs_in else ""
        return f"{len(self.layers)} layers have binary weights, {share:.1%} of the weights of all layers.{signs}"

    def shown(self, name: str) -> Shown:
        """The number of signs in each layer."""
        facts = {
            "warning": self.warning,
            "one magnitude for each": self.scale,
            "not binary": reasons(self.left_out),
            "binary activations": ", ".join(self.signs_in),
            "binary weights behind floats": reasons(self.floats_in),
        }
        return Shown(
            title="Binary weights",
            head=("layer", "weights"),
            note=f"{self.told()} A plain file stores them as floats; onnx-compact in a bit each.",
            rows=tuple(Row(label=layer, value=number) for layer, number in self.layers.items()),
            facts={key: text for key, text in facts.items() if text},
        )


def reasons(layers: Mapping[str, str]) -> str:
    """Layers with what is true of each, in words."""
    return "; ".join(f"{layer}: {why}" for layer, why in layers.items())
