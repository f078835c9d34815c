"""Removal of a whole residual branch: the block hands on its input as it is."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from edgecr.core.errors import UnsupportedModel
from edgecr.surgery.changes.base import Change, register
from edgecr.surgery.promise import Promise


@register
class BlockDrop(Change):
    """One residual block that became its shortcut; its layers are gone from the file."""

    tag: ClassVar[str] = "drop"

    block: str
    """Name of the module that becomes an identity."""

    def replay(self, module: nn.Module) -> None:
        """Puts an identity in the block's place."""
        parent, _, name = self.block.rpartition(".")
        try:
            owner = module.get_submodule(parent)
            owner.get_submodule(name)
        except AttributeError as error:
            raise UnsupportedModel(f"The model has no block {self.block!r} that could be dropped.") from error
        setattr(owner, name, nn.Identity())

    def promise(self, module: nn.Module) -> Promise:
        """Nothing beside the layers that are gone, which a count of the remaining ones shows."""
        return Promise()
