"""The sources of images. Torch-free: a source is declared and checked here, and read on demand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecr.core.options import chosen_by
from edgecr.data import cifar as cifar  # each of these registers its sources
from edgecr.data import digits as digits
from edgecr.data import folder as folder
from edgecr.data.base import Dataset, DataSource, sources

__all__ = ["AnySource", "DataSource", "Dataset", "sources"]

if TYPE_CHECKING:
    AnySource = DataSource
else:
    AnySource = chosen_by("name", [sources.get(name) for name in sources], sources.get)
    """The field type of a declared source, whichever kind it is."""
