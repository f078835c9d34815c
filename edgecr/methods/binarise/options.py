"""The options of a binarisation. Torch-free: recipes are checked with them."""

from __future__ import annotations

from typing import Literal

from edgecr.methods.train import TrainingMethod


class BinariseOptions(TrainingMethod):
    """The layers that become binary, the weights that share a magnitude, and what the layers see."""

    scale: Literal["channel", "tensor"] = "channel"
    """Weights that share a magnitude: those of an output channel, or of the whole layer."""
    ends: bool = False
    """Binarise the first and the last layer too, which cost the most accuracy and hold few of the weights."""
    activations: Literal["float", "binary"] = "float"
    """Inputs of the binary convolutions: as they are, or their signs, which `openvino-binary` computes with faster."""
    exclude: tuple[str, ...] = ()
    """Layers that stay as they are, as name patterns: ``layer1``, ``*.conv2``."""

    @property
    def promises(self) -> tuple[str, ...]:
        """Binary weights, which later trainings keep."""
        return ("binary",)
