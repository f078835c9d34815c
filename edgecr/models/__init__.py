"""Architectures of models. Torch-free: an architecture is declared and checked here, and built on demand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgecr.core.errors import RequestError, UnknownName
from edgecr.core.options import chosen_by
from edgecr.core.yaml_text import Document, check
from edgecr.models import cifar_resnet as cifar_resnet  # registers its families
from edgecr.models import conv_n as conv_n
from edgecr.models import densenet_cifar as densenet_cifar
from edgecr.models import mobilenet as mobilenet
from edgecr.models import resnext_cifar as resnext_cifar
from edgecr.models import vgg_cifar as vgg_cifar
from edgecr.models import wide_resnet as wide_resnet
from edgecr.models.base import Architecture, families
from edgecr.models.external import External, source_of
from edgecr.models.given import GivenModule, is_given

if TYPE_CHECKING:
    from torch import nn

__all__ = ["AnyArchitecture", "Architecture", "architecture", "build", "families"]


def _kind(name: str) -> type[Architecture]:
    """The class that checks the options of an architecture."""
    if source_of(name) is not None:
        return External
    if is_given(name):
        return GivenModule
    if name not in families:
        known = [*families, "torchvision:NAME", "timm:NAME", "package.module:function"]
        longer = [other for other in families if other.startswith(name)]  # nearer than any typing error
        raise UnknownName(families.kind, name, longer or known)
    return families.get(name)


if TYPE_CHECKING:
    AnyArchitecture = Architecture
else:
    AnyArchitecture = chosen_by("arch", [*(families.get(name) for name in families), External], _kind)
    """The field type of a declared architecture, whichever family it belongs to."""


def architecture(values: dict[str, Any]) -> Architecture:
    """The checked declaration that plain values describe; its family follows from ``arch``."""
    name = values.get("arch")
    if not isinstance(name, str):
        raise RequestError("An architecture needs the key 'arch': the name of a model.")
    return check(_kind(name), Document(values))


def build(declared: Architecture, classes: int, *, allow_code: bool = False) -> nn.Module:
    """A freshly initialised module of a declared architecture."""
    if declared.classes is not None and declared.classes != classes:
        raise RequestError(
            f"The model {declared.arch} is declared with {declared.classes} classes, not {classes}. "
            "Correct its key 'classes', or leave it out."
        )
    return declared.build(classes, allow_code=allow_code)
