"""Blocks of inputs with a fixed number of zeros. The zeros are a ``WeightMask``'s; this promises their places."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar

from pydantic import Field
from torch import nn
from typing_extensions import Self

from edgecr.core.options import Options
from edgecr.surgery.blocks import Blocks
from edgecr.surgery.changes.base import Change, register
from edgecr.surgery.changes.mask import parameter_of
from edgecr.surgery.promise import Promise


class BlockedTensor(Options):
    """One parameter in blocks."""

    tensor: str
    """Name of the parameter: ``layer1.0.conv1.weight``."""
    blocks: Annotated[int, Field(ge=1)]
    """Number of its blocks."""


@register
class BlockMask(Change):
    """Weights with a fixed number of zeros in each block of neighbouring inputs."""

    tag: ClassVar[str] = "nm_mask"

    pattern: str
    """Weights that a block keeps at most, and its size: ``2:4``."""
    tensors: tuple[BlockedTensor, ...]
    """All parameters in such blocks."""

    @classmethod
    def of(cls, module: nn.Module, names: Iterable[str], pattern: str) -> Self:
        """The record of these parameters, whose blocks have their zeros."""
        figure = Blocks.of(pattern)()
        counted = {name: figure.count(parameter_of(module, name).detach().cpu().numpy()) for name in names}
        return cls(pattern=pattern, tensors=tuple(BlockedTensor(tensor=n, blocks=b) for n, b in counted.items() if b))

    def replay(self, module: nn.Module) -> None:
        """Leaves the module as it is, since only values differ; a tensor that it lacks is refused."""
        for one in self.tensors:
            parameter_of(module, one.tensor)

    def promise(self, module: nn.Module) -> Promise:
        """The blocks of each tensor."""
        return Promise(figures={Blocks.of(self.pattern).figure(): {one.tensor: one.blocks for one in self.tensors}})
