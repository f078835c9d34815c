"""A forward pass operator by operator, with the layers whose weights are parameters picked out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from typing_extensions import override

from edgecr.core.errors import UnsupportedModel
from edgecr.surgery.tracing.running import state_of

TURNS = ("t", "transpose", "permute", "expand", "view")
"""Views by which a linear layer's weight comes to stand the other way round, once for each matrix of inputs."""
UNCOUNTED = "aten::detach"
"""An operator without a number: torch adds one where a new tensor is held by somebody else already."""
NORMS = ("native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm", "miopen_batch_norm")


@dataclass(frozen=True)
class LayerCall:
    """One application of a convolution or linear layer."""

    weight: str
    """Name of the parameter."""
    bias: str
    """Name of its bias; empty where there is none."""
    input: Tensor
    geometry: Mapping[str, Any]
    """Stride, padding, dilation, groups and transposition of a convolution; empty for linear layers."""

    @property
    def groups(self) -> int:
        """Groups of a convolution; 1 for linear layers."""
        return int(self.geometry.get("groups", 1))


@dataclass(frozen=True)
class NormCall:
    """One application of a batch norm, by the names of its parameters and buffers."""

    weight: str
    bias: str
    running_mean: str
    running_var: str
    eps: float

    @property
    def tensors(self) -> tuple[str, ...]:
        """Their names; empty for those that are none."""
        return self.weight, self.bias, self.running_mean, self.running_var


@dataclass(frozen=True)
class OperatorCall:
    """One operator of the pass: its place in the pass, its name and arguments, and the layer that it is."""

    number: int
    operator: str
    mutates: bool
    view: bool
    """True where the result looks into the memory of an argument."""
    arguments: Mapping[str, Any]
    layer: LayerCall | None
    norm: NormCall | None

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors among the arguments."""
        return [leaf for leaf in tree_leaves(dict(self.arguments)) if isinstance(leaf, Tensor)]


class Numbered(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Numbers the operators of a pass: passes of one module can be compared by these numbers."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.number = -1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs one operator."""
        if func._schema.name == UNCOUNTED:
            return func(*args, **(kwargs or {}))
        self.number += 1
        return self.call(func, args, kwargs or {})

    def call(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Runs one operator whose number is known."""
        return func(*args, **kwargs)


class Stream(Numbered):  # type: ignore[no-untyped-call]
    """Hands each operator of a pass to ``before``, runs it, and hands its result to ``after``."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._names: dict[int, str] = {}
        for name, tensor in state.items():
            self._names.setdefault(id(tensor), name)
        self._turned: dict[int, tuple[Tensor, str]] = {}
        self.failure: Exception | None = None
        """The error of ``before`` or ``after``, which is not the model's."""

    def before(self, call: OperatorCall) -> None:
        """Is called with each operator before it runs."""

    def perform(self, call: OperatorCall, work: Callable[[], Any]) -> Any:
        """Runs an operator."""
        return work()

    def after(self, call: OperatorCall, out: Any) -> None:
        """Is called with each operator and its result."""

    def name(self, tensor: object) -> str:
        """The parameter or buffer that this very tensor is, or whose transpose it is; empty for any other."""
        turned = self._turned.get(id(tensor))
        return self._names.get(id(tensor), turned[1] if turned else "")

    @override
    def call(self, func: Any, args: Any, kwargs: Any) -> Any:
        values = {argument.name: value for argument, value in zip(func._schema.arguments, args)} | kwargs
        operator = func._schema.name.partition("::")[2]
        if operator in TURNS and (name := self.name(values["self"])):
            out = func(*args, **kwargs)
            if self._stands_turned(values["self"], out):
                self._turned[id(out)] = (out, name)  # kept alive, so that no other tensor gets its id
                return out
        mutates = bool(func._schema.is_mutable) and operator not in NORMS
        layer, norm = self._layer(operator, values), self._norm(operator, values)
        call = OperatorCall(self.number, operator.rstrip("_"), mutates, bool(func.is_view), values, layer, norm)
        with self._own():
            self.before(call)
        out = self.perform(call, partial(func, *args, **kwargs))
        with self._own():
            self.after(call, out)
        return out

    @contextmanager
    def _own(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.failure = error
            raise

    def _stands_turned(self, given: Tensor, out: Tensor) -> bool:
        """True for a weight that stands the other way round now, or still does for each of several matrices."""
        if id(given) in self._turned:
            same = out.shape[-2:] == given.shape[-2:] and out.stride()[-2:] == given.stride()[-2:]
            return same and not any(out.stride()[:-2])
        return given.dim() == 2 and out.shape == given.shape[::-1] and out.stride() == given.stride()[::-1]

    def _layer(self, operator: str, values: Mapping[str, Any]) -> LayerCall | None:
        places = {
            "convolution": ("input", "weight", "bias"),
            "linear": ("input", "weight", "bias"),
            "addmm": ("mat1", "mat2", "self"),
            "mm": ("self", "mat2", ""),
            "bmm": ("self", "mat2", ""),
        }.get(operator)
        if places is None or not _plain(values):
            return None
        read, weight, bias = (values.get(place) for place in places)
        name, turned = self.name(weight), id(weight) in self._turned
        if not isinstance(read, Tensor) or not name or turned != (operator in ("addmm", "mm", "bmm")):
            return None
        named = self.name(bias) if bias is not None else ""
        if bias is not None and not named:
            return None
        geometry = (
            {key: values[key] for key in ("stride", "padding", "dilation", "transposed", "groups")}
            if (operator == "convolution")
            else {}
        )
        return LayerCall(name, named, read, geometry)

    def _norm(self, operator: str, values: Mapping[str, Any]) -> NormCall | None:
        if operator not in NORMS:
            return None
        weight, bias, mean, var = (
            self.name(values.get(key)) for key in ("weight", "bias", "running_mean", "running_var")
        )
        return NormCall(weight, bias, mean, var, float(values.get("eps", values.get("epsilon", 1e-5))))


def first_names(module: nn.Module) -> dict[str, str]:
    """The name under which a stream knows each parameter and buffer: the first of those that a shared tensor has."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in state_of(module).items()}


def _plain(values: Mapping[str, Any]) -> bool:
    """True for a sum without factors."""
    return bool(values.get("alpha", 1) == 1 and values.get("beta", 1) == 1)


class Enough(BaseException):
    """A stream has seen all that it wants, and ends its pass; not an Exception, so that a module lets it through."""


def run(module: nn.Module, images: Tensor, stream: Stream) -> Any:
    """Runs a module under a stream, without gradients; the caller sets its mode. Returns what the module answers."""
    return run_on(module, images.clone(), stream)


def run_on(module: nn.Module, images: Tensor, stream: Stream) -> Any:
    """The same for images that the module may change in place."""
    with torch.no_grad(), stream:
        try:
            return module(images)
        except Enough:
            return None
        except Exception as error:  # the code is the user's, so anything may be raised
            if error is stream.failure or isinstance(error, UnsupportedModel):
                raise
            raise UnsupportedModel(f"The model fails on images of shape {tuple(images.shape)}: {error}") from error


def run_apart(module: nn.Module, images: Tensor, stream: Stream) -> None:
    """Runs a module in the middle of another pass: in a thread of its own, or its operators would be other ones."""
    with ThreadPoolExecutor(1) as apart:
        apart.submit(run, module, images, stream).result()
