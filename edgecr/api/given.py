"""A module that a caller built, as the subject that every method and exporter works on."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from edgecr.api.runs import plain_values
from edgecr.core.errors import RecipeError, RequestError
from edgecr.core.files import fingerprint
from edgecr.core.options import Options
from edgecr.core.yaml_text import Document, check
from edgecr.models.given import GivenModule
from edgecr.subject import Subject
from edgecr.surgery.tracing.running import answers, example_for
from edgecr.weights import hash_tensors

OptionsType = TypeVar("OptionsType", bound=Options)


def subject_of(module: nn.Module, example_input: Tensor) -> Subject:
    """A copy of a module on the CPU as a subject. Refuses a module that fails on the example."""
    _check_input(example_input)
    example_input = example_input.clone()  # one that was made in inference mode cannot be used outside of it
    own = copied(module)
    classes = classes_of(own, example_input)
    return Subject(GivenModule.of(own), max(1, classes), tuple(example_input.shape[1:]), own)  # type: ignore[arg-type]


def model_section(module: nn.Module, size: tuple[int, int]) -> dict[str, Any]:
    """A recipe's ``model`` section for a classifier of RGB images in memory, which is copied.

    Runs know it by its content, so that the same module resumes the same run.
    """
    own = copied(module).eval()
    example = example_for(own, (3, *size))
    classes = classes_of(own, example)
    if not classes:
        raise RequestError(f"The module {type(module).__name__} is no classifier: it answers with no row of classes.")
    return {"arch": GivenModule.keep(own, _content(own, example)), "classes": classes}


def _content(module: nn.Module, example: Tensor) -> str:
    """A hash of all that a module computes: its tensors, its operators, and the bits of its answer to an example."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the last bits of an answer depend on it
    try:
        with _Operators() as operators:
            found = answers(module, example)
    finally:
        torch.set_num_threads(threads)
    answered = hash_tensors({str(number): tensor for number, tensor in enumerate(found)})
    return fingerprint([hash_tensors(module.state_dict()), operators.called, answered])


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Lists the operators that run, with their arguments; tensors by their shapes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.called: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        shown = tree_map(lambda leaf: tuple(leaf.shape) if isinstance(leaf, Tensor) else leaf, (args, kwargs))
        self.called.append(f"{func} {shown}")
        return func(*args, **kwargs)


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
