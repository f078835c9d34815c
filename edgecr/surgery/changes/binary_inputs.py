"""Inputs of convolutions that are signs: plus or minus one."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from edgecr.surgery.changes.base import Change, register
from edgecr.surgery.promise import Promise
from edgecr.surgery.sign_inputs import sees_signs


@register
class BinaryInputs(Change):
    """Convolutions that see the signs of their inputs."""

    tag: ClassVar[str] = "binary_inputs"

    layers: tuple[str, ...]
    """Names of the convolutions: ``layer1.0.conv1``."""

    def replay(self, module: nn.Module) -> None:
        """Puts the signs in front of the convolutions."""
        for name in self.layers:
            sees_signs(module, name)

    def promise(self, module: nn.Module) -> Promise:
        """Nothing that lies in weights: that the file computes with signs is proven by its answers."""
        return Promise()
