"""Models by name from torchvision and timm, and from the user's own code."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from pydantic import Field, JsonValue, model_validator

from edgecr.core.errors import RequestError, UnknownName
from edgecr.models.base import Architecture
from edgecr.models.own_code import source_hashes

if TYPE_CHECKING:
    from torch import nn

_LIBRARIES = ("torchvision", "timm")
_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def source_of(name: str) -> str | None:
    """``torchvision``, ``timm``, ``code``, or None when the name is of none of these forms."""
    library = name.partition(":")[0]
    if library in _LIBRARIES:
        return library
    return "code" if _FUNCTION.fullmatch(name) else None


class External(Architecture):
    """A whole model from elsewhere: ``torchvision:NAME``, ``timm:NAME`` or ``package.module:function``."""

    usual_side: ClassVar[int] = 224

    options: dict[str, JsonValue] = Field(default_factory=dict)
    """Further arguments of the model's constructor."""
    pretrained: bool = False
    """Start from the library's published weights, downloaded; a classifier of another size is new."""

    @model_validator(mode="after")
    def _one_start(self) -> External:
        if self.pretrained and self.weights is not None:
            raise ValueError("give either pretrained or weights, not both")
        if self.pretrained and source_of(self.arch) == "code":
            raise ValueError("pretrained is for torchvision and timm; your own model needs weights: PATH")
        return self

    def build(self, classes: int, *, allow_code: bool = False) -> nn.Module:
        """A freshly initialised module with that many classes."""
        from edgecr.models import libraries

        source, name = source_of(self.arch), self.arch.partition(":")[2]
        if source == "torchvision":
            return libraries.torchvision_model(name, classes, self.options, published=self.pretrained)
        if source == "timm":
            return libraries.timm_model(name, classes, self.options)
        return _own_model(self.arch, classes, self.options, allow_code)

    @property
    def starts_trained(self) -> bool:
        """True if the declaration names weights to start from, its own or published ones."""
        return self.pretrained or super().starts_trained

    def fetch_weights(self, module: nn.Module) -> tuple[str, ...]:
        """Fills a built module with the library's published weights; returns the names of what stays untrained."""
        from edgecr.models import libraries

        if not self.pretrained:
            return ()
        source, _, name = self.arch.partition(":")
        return libraries.fetch_weights(source, name, self.options, module)


def _own_model(arch: str, classes: int, options: dict[str, Any], allow_code: bool) -> nn.Module:
    """Returns the model that the user's function makes from ``num_classes`` and the options."""
    from edgecr.models.libraries import called

    if not allow_code:
        refuse_code(arch)
    module, _, function = arch.partition(":")
    return called(arch, _imported(module, function, arch), classes, options)


def refuse_code(arch: str) -> NoReturn:
    """Raises for a model that is code, which the user did not allow to run."""
    near = UnknownName("source of models", arch.partition(":")[0], _LIBRARIES)
    hint = f" {near}" if "Did you mean" in str(near) else ""
    raise RequestError(f"The model {arch} is Python code of your own; pass --allow-code to run it.{hint}")


def own_source(arch: str) -> dict[str, str]:
    """The hashes of the code behind a model of the user's own: of its module and the local ones that it imports.

    Imports the module, so only call it where the user allowed code.
    """
    module, _, function = arch.partition(":")
    _imported(module, function, arch)
    origin = getattr(sys.modules[module], "__file__", None)
    return source_hashes(module, Path(origin)) if origin else {}


def _imported(module: str, function: str, arch: str) -> Any:
    """The function that a name means; modules in the working folder can be imported too."""
    from importlib import import_module

    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        return getattr(import_module(module), function)
    except ImportError as error:
        raise RequestError(f"The model {arch} cannot be imported: {error}.") from error
    except AttributeError as error:
        raise RequestError(f"The model {arch} does not exist: {module} has no {function}.") from error
