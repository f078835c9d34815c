"""A forward pass operator by operator, with the layers whose weights are parameters picked out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from edgecr.core.errors import UnsupportedModel

NORMS = ("native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm", "miopen_batch_norm")


@dataclass(frozen=True)
class LayerCall:
    """One application of a convolution or linear layer."""

    weight: str
    """Name of the parameter."""
    bias: str
    """Name of its bias; empty where there is none, or where it is no parameter."""
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


@dataclass(frozen=True)
class OperatorCall:
    """One operator of the pass: its place in the pass, its name and arguments, and the layer that it is."""

    number: int
    operator: str
    mutates: bool
    arguments: Mapping[str, Any]
    layer: LayerCall | None
    norm: NormCall | None

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors among the arguments."""
        return [leaf for leaf in tree_leaves(dict(self.arguments)) if isinstance(leaf, Tensor)]


class Stream(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Hands each operator of a pass to ``before``, runs it, and hands its result to ``after``."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._names: dict[int, str] = {}
        for name, tensor in state.items():
            self._names.setdefault(id(tensor), name)
        self._turned: dict[int, tuple[Tensor, str]] = {}
        self._number = -1

    def before(self, call: OperatorCall) -> None:
        """Is called with each operator before it runs."""

    def after(self, call: OperatorCall, out: Any) -> None:
        """Is called with each operator and its result."""

    def name(self, tensor: object) -> str:
        """The parameter or buffer that this very tensor is, or whose transpose it is; empty for any other."""
        turned = self._turned.get(id(tensor))
        return self._names.get(id(tensor), turned[1] if turned else "")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs one operator."""
        self._number += 1
        values = {argument.name: value for argument, value in zip(func._schema.arguments, args)} | (kwargs or {})
        operator = func._schema.name.partition("::")[2]
        if operator == "t" and id(values["self"]) in self._names:
            out = func(*args, **(kwargs or {}))
            self._turned[id(out)] = (out, self._names[id(values["self"])])  # kept alive, so that no other gets its id
            return out
        mutates = bool(func._schema.is_mutable) and operator not in NORMS
        call = OperatorCall(
            self._number,
            operator.rstrip("_"),
            mutates,
            values,
            self._layer(operator, values),
            self._norm(operator, values),
        )
        self.before(call)
        out = func(*args, **(kwargs or {}))
        self.after(call, out)
        return out

    def _layer(self, operator: str, values: Mapping[str, Any]) -> LayerCall | None:
        places = {
            "convolution": ("input", "weight", "bias"),
            "linear": ("input", "weight", "bias"),
            "addmm": ("mat1", "mat2", "self"),
            "mm": ("self", "mat2", ""),
        }.get(operator)
        if places is None:
            return None
        read, weight, bias = (values.get(place) for place in places)
        name, turned = self.name(weight), id(weight) in self._turned
        if not isinstance(read, Tensor) or not name or turned != (operator in ("addmm", "mm")):
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


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers by name; a shared tensor under each of its names, the first one first."""
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


def run(module: nn.Module, images: Tensor, stream: Stream) -> None:
    """Runs a module in evaluation mode under a stream; the caller sets the mode."""
    with torch.no_grad(), stream:
        try:
            module(images)
        except (UnsupportedModel, FloatingPointError):
            raise
        except Exception as error:  # the code is the user's, so anything may be raised
            raise UnsupportedModel(f"The model fails on images of shape {tuple(images.shape)}: {error}") from error
