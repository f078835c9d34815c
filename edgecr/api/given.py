"""A module that a caller built, as the subject that every method and exporter works on."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from pydantic import PrivateAttr
from torch import Tensor, nn
from typing_extensions import Self

from edgecr.api.runs import plain_values
from edgecr.core.errors import RecipeError, RequestError
from edgecr.core.options import Options
from edgecr.core.yaml_text import Document, check
from edgecr.models.base import Architecture
from edgecr.subject import Subject
from edgecr.surgery.tracing.running import answers

OptionsType = TypeVar("OptionsType", bound=Options)


class GivenModule(Architecture):
    """A module in memory: copying it is the only way to build it again, so it can be saved in no run."""

    _module: nn.Module = PrivateAttr()

    @classmethod
    def of(cls, module: nn.Module) -> Self:
        """The declaration of a module, under the name of its class."""
        made = cls(arch=type(module).__name__)
        made._module = module
        return made

    def build(self, classes: int, *, allow_code: bool = False) -> nn.Module:
        """A copy of the module."""
        return copy.deepcopy(self._module)


def subject_of(module: nn.Module, example_input: Tensor) -> Subject:
    """A copy of a module on the CPU as a subject. Refuses a module that fails on the example."""
    _check_input(example_input)
    example_input = example_input.clone()  # one that was made in inference mode cannot be used outside of it
    own = copied(module)
    classes = classes_of(own, example_input)
    return Subject(GivenModule.of(own), max(1, classes), tuple(example_input.shape[1:]), own)  # type: ignore[arg-type]


def classes_of(module: nn.Module, inputs: Tensor) -> int:
    """The number of classes that a classifier on the CPU answers with; 0 for any other model."""
    outputs = answers(module, inputs.detach().cpu())
    return outputs[0].shape[1] if outputs and outputs[0].dim() == 2 else 0


def home_of(module: nn.Module) -> torch.device:
    """The device that a module lies on."""
    return next((tensor.device for tensor in (*module.parameters(), *module.buffers())), torch.device("cpu"))


def copied(module: nn.Module) -> nn.Module:
    """A copy on the CPU that shares nothing with the module."""
    if not isinstance(module, nn.Module):
        raise RequestError(f"A torch.nn.Module is needed here, not {type(module).__name__}.")
    try:
        return copy.deepcopy(module).cpu()
    except Exception as error:  # the code is the user's, so anything may be raised
        raise RequestError(
            f"The module {type(module).__name__} cannot be copied, and the given one is never changed: {error}"
        ) from error


def _check_input(example_input: Any) -> None:
    if not isinstance(example_input, Tensor):
        raise RequestError(
            f"example_input is one tensor, not {type(example_input).__name__}: EdgeCR works on models with one input."
        )
    if example_input.dim() < 2 or not len(example_input) or not example_input.is_floating_point():
        raise RequestError(
            "example_input is a floating-point tensor with the batch first, such as torch.randn(1, 3, 224, 224); "
            f"this one is {str(example_input.dtype).removeprefix('torch.')} of shape {tuple(example_input.shape)}."
        )


def options_of(kind: type[OptionsType], values: Mapping[str, Any], function: str) -> OptionsType:
    """The checked options of a method; mistakes are told under the function's name."""
    plain = plain_values(values, f"The options of edgecr.{function}()")
    try:
        return check(kind, Document(plain))
    except RecipeError as error:
        found = "\n".join(f"  {problem}" for problem in error.problems)
        raise RequestError(f"edgecr.{function}() cannot take these options:\n{found}") from error
