"""The sources of images. Torch-free: a source is declared and checked here, and read on demand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecr.core.options import chosen_by
from edgecr.data import cifar as cifar  # each of these registers its sources
from edgecr.data import digits as digits
from edgecr.data import folder as folder
from edgecr.data.base import Dataset, DataSource, sources
from edgecr.data.given import GivenImages

__all__ = ["AnySource", "DataSource", "Dataset", "sources"]


def _kind(name: str) -> type[DataSource]:
    """The class that checks the options of a source."""
    return GivenImages if name == GivenImages.NAME else sources.get(name)


if TYPE_CHECKING:
    AnySource = DataSource
else:
    AnySource = chosen_by("name", [sources.get(name) for name in sources], _kind)
    """The field type of a declared source, whichever kind it is."""
