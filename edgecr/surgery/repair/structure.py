"""Finds what stands around each layer: the batch norm behind it, and the sum in which a residual branch ends.

Found in one pass by the tensors that flow, never by the names of modules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from typing_extensions import override

from edgecr.surgery.repair.stream import LayerCall, NormCall, OperatorCall, Stream, run
from edgecr.surgery.tracing.running import state_of

_ASKER = -2
"""The reader of the model's answers, which is no operator."""
Value = tuple[int, int]
"""A tensor and how often it was changed in place."""


@dataclass(frozen=True)
class Application:
    """One application of a layer: its weight, and the how-manieth application of that weight it is."""

    weight: str
    number: int = 0

    @property
    def layer(self) -> str:
        """The layer's name, as people write it."""
        return self.weight.removesuffix(".weight")


@dataclass(frozen=True)
class Surroundings:
    """The batch norm and the sum around one application of a layer."""

    norm: NormCall | None = None
    """The batch norm that alone reads its output."""
    other: int | None = None
    """The operator whose first result is added to this branch's, where later layers have no part in it."""


@dataclass(frozen=True)
class Structure:
    """The layers of a module by the operator that applies them, in running order."""

    uses: Mapping[int, Application]
    places: Mapping[Application, Surroundings]
    norms: Mapping[int, NormCall]
    """Batch norms that run once and have all of their parameters and statistics."""
    skipped: Mapping[str, str]
    """Layers that are not repaired, and why."""
    biases: Mapping[str, str]
    """The bias of each weight that has one."""
    bias_shared: frozenset[str]
    """Biases that several weights go with, or that are read elsewhere too."""

    def shared(self, weight: str) -> bool:
        """True for a weight that is applied several times."""
        return Application(weight, 1) in self.places


def structure(module: nn.Module, images: Tensor) -> Structure:
    """Runs a module once on a few images; it must be in evaluation mode."""
    seen = _Seen(state_of(module))
    seen.answered(run(module, images, seen))
    return seen.found()


class _Seen(Stream):  # type: ignore[no-untyped-call]
    """Notes the maker and the readers of each value."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__(state)
        self._alive: list[Tensor] = []  # an id must not be taken by another tensor during the pass
        self._changes: Counter[int] = Counter()
        self._makers: dict[Value, int] = {}
        self._readers: dict[Value, list[int]] = {}
        self._made: dict[int, Value] = {}
        self._calls: dict[int, OperatorCall] = {}
        self._sums: dict[int, tuple[Value, Value]] = {}
        self._foreign: set[str] = set()
        self._layers: dict[Value, int] = {}

    def _value(self, tensor: Tensor) -> Value:
        return id(tensor), self._changes[id(tensor)]

    @override
    def before(self, call: OperatorCall) -> None:
        self._calls[call.number] = call
        for tensor in call.tensors:
            self._readers.setdefault(self._value(tensor), []).append(call.number)
            if call.layer is None and call.norm is None and (name := self.name(tensor)):
                self._foreign.add(name)
        if call.operator == "add" and call.arguments.get("alpha", 1) == 1:
            one, other = call.arguments.get("self"), call.arguments.get("other")
            if isinstance(one, Tensor) and isinstance(other, Tensor) and one.shape == other.shape and one is not other:
                self._sums[call.number] = (self._value(one), self._value(other))

    @override
    def after(self, call: OperatorCall, out: Any) -> None:
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        before = (self._layers.get(self._value(tensor), -1) for tensor in call.tensors)
        last = max(before, default=-1) if call.layer is None else call.number
        for tensor in made:
            if call.mutates and any(tensor is given for given in call.tensors):
                self._changes[id(tensor)] += 1
            self._alive.append(tensor)
            self._makers[self._value(tensor)], self._layers[self._value(tensor)] = call.number, last
        if made:
            self._made[call.number] = self._value(made[0])

    def answered(self, out: Any) -> None:
        """The model's answers are read by whoever asked."""
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._readers.setdefault(self._value(leaf), []).append(_ASKER)

    def found(self) -> Structure:
        """The layers, with what stands around them."""
        layers = {number: call.layer for number, call in self._calls.items() if call.layer is not None}
        biases, companions = dict[str, set[str]](), dict[str, set[str]]()
        for layer in layers.values():
            biases.setdefault(layer.weight, set()).add(layer.bias)
            companions.setdefault(layer.bias, set()).add(layer.weight)
        uses, times, skipped = dict[int, Application](), Counter[str](), dict[str, str]()
        for number, layer in layers.items():
            use = Application(layer.weight, times[layer.weight])
            if layer.geometry.get("transposed"):
                skipped[use.layer] = "transposed convolutions are not refitted"
            elif layer.weight in self._foreign:
                skipped[use.layer] = "its weight is also read by another operator"
            elif len(biases[layer.weight]) > 1:
                skipped[use.layer] = "it is applied with several biases"
            elif not self._depthwise(number, layer):
                uses[number] = use
                times[layer.weight] += 1
        norms = self._norms()
        places = {use: self._place(number, norms) for number, use in uses.items()}
        shared = frozenset(bias for bias, weights in companions.items() if len(weights) > 1 or bias in self._foreign)
        own = {weight: bias for weight, (bias, *_) in biases.items() if bias}
        return Structure(uses, places, norms, skipped, own, shared)

    def _depthwise(self, number: int, layer: LayerCall) -> bool:
        """True for a layer that carries each channel through by itself, which nothing makes up for."""
        return layer.groups > 1 and bool(self._calls[number].arguments["weight"].shape[1] == 1)

    def _norms(self) -> dict[int, NormCall]:
        found = {number: call.norm for number, call in self._calls.items() if call.norm is not None}
        times = Counter(name for norm in found.values() for name in norm.tensors)
        return {
            number: norm
            for number, norm in found.items()
            if all(times[name] == 1 and name not in self._foreign for name in norm.tensors) and all(norm.tensors)
        }

    def _place(self, number: int, norms: Mapping[int, NormCall]) -> Surroundings:
        end, norm = number, None
        reader = self._only_reader(number)
        if reader in norms:
            end, norm = reader, norms[reader]
        return Surroundings(norm, self._other(number, end))

    def _other(self, layer: int, end: int) -> int | None:
        """The maker of what a sum adds to the branch that ends there, if no later layer has a part in it."""
        reader = self._only_reader(end)
        if reader not in self._sums:
            return None
        one, two = self._sums[reader]
        other = two if self._made[end] == one else one
        maker = self._makers.get(other)
        if maker is None or self._made[maker] != other or self._layers[other] > layer:
            return None
        return maker

    def _only_reader(self, number: int) -> int:
        """The one operator that reads what an operator made; -1 where it is none or several."""
        made = self._made.get(number)
        readers = self._readers.get(made, []) if made is not None else []
        return readers[0] if len(readers) == 1 else -1
