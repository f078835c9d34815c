"""The options of a repair. Torch-free: recipes are checked with them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from edgecr.core.options import Options

FEWEST = 64
"""With fewer images there is nothing to learn from that is not chance."""
FEW = 256
"""With fewer images a repair brings clearly less."""


class RepairOptions(Options):
    """The refit of layers after a removal: in closed form, from unlabelled training images."""

    images: Annotated[int, Field(ge=FEWEST)] = 512
    """Training images that the layers are refitted on; no labels are used."""
    positions: Annotated[int, Field(ge=1)] = 16
    """Output positions of each layer that are looked at in each image."""
    ridge: Annotated[float, Field(gt=0, le=10)] = 0.1
    """Pull towards the weights as they are, relative to the mean square of an input."""
