"""Modules that a caller built, declared as architectures: in one process they can be built again by copying them."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING

from pydantic import PrivateAttr
from typing_extensions import Self, override

from edgecr.core.kept import Kept
from edgecr.models.base import Architecture

if TYPE_CHECKING:
    from torch import nn

_NAME = re.compile(r"\w+@[0-9a-f]{12}")
_modules: Kept[nn.Module] = Kept("The weights and the code of")


def is_given(name: str) -> bool:
    """True for the name of a module in memory."""
    return _NAME.fullmatch(name) is not None


class GivenModule(Architecture):
    """A module in memory: copying it is the only way to build it again."""

    _module: nn.Module | None = PrivateAttr(default=None)

    @classmethod
    def of(cls, module: nn.Module) -> Self:
        """The declaration of a module, under the name of its class; it can be saved in no run."""
        made = cls(arch=type(module).__name__)
        made._module = module
        return made

    @staticmethod
    def keep(module: nn.Module, content: str) -> str:
        """Keeps a module for runs of this process, and returns the name of its architecture there.

        ``content`` is a hash of all that the module computes.
        """
        name = f"{type(module).__name__}@{content[:12]}"
        _modules.put(name, module)
        return name

    @property
    @override
    def starts_trained(self) -> bool:
        return True

    @override
    def build(self, classes: int, *, allow_code: bool = False) -> nn.Module:
        return copy.deepcopy(self._module or _modules.get(self.arch))
