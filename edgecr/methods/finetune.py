"""A short training at a low learning rate: what heals a model after it was cut."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from edgecr.methods.base import methods
from edgecr.methods.train import Train

_GENTLER = 10


@methods.register("finetune")
class FineTune(Train):
    """Train on for a few epochs at a tenth of the usual learning rate."""

    epochs: Annotated[int, Field(ge=1)] = 15
    """Passes over the training images."""

    @property
    def rate(self) -> float:
        """The peak learning rate; a tenth of training's own one when none was given."""
        return super().rate if self.lr is not None else super().rate / _GENTLER
