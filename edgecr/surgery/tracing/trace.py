"""The facts about a model's channels that one forward pass records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from edgecr.surgery.tracing.slots import Ids, Ledger, Slots

Role = Literal["out", "in"]


@dataclass(frozen=True)
class TensorMember:
    """One axis of a parameter or buffer; ``out`` makes or scales channels, ``in`` reads them."""

    tensor: str
    dim: int
    role: Role
    ids: Ids
    weight: bool
    """True for the weight of a convolution or linear layer, so that its channels can be removed."""
    closes: bool = False
    """True if a channel that is zero where it is made is not zero here, so that masks cover what reads it too."""

    @property
    def layer(self) -> str:
        """The module that owns the tensor."""
        return self.tensor.rpartition(".")[0]

    @property
    def makes_channels(self) -> bool:
        """True if this axis creates channels."""
        return self.weight and self.role == "out"


@dataclass(frozen=True)
class SettingMember:
    """Integer attributes of a module that count channels, and how many ids each owns, in order."""

    layer: str
    counts: tuple[tuple[str, int], ...]
    ids: Ids


Member = TensorMember | SettingMember


@dataclass(frozen=True)
class Use:
    """One application of a weight: its multiply-accumulates are the weight's size times ``positions``.

    A weight that is computed has no name and no size of its own; ``positions`` are its multiply-accumulates.
    """

    tensor: str
    positions: int


@dataclass(frozen=True)
class Unknown:
    """An operator without a handler that stopped channels, and where."""

    operator: str
    layer: str


@dataclass
class Trace:
    """The members, ties and uses found so far, and the slots that tensors carry while the module runs."""

    module: nn.Module
    state: Mapping[str, Tensor]
    """The parameters and buffers that the module runs with: its own ones, or stand-ins."""
    ledger: Ledger = field(default_factory=Ledger)
    members: dict[tuple[str, int | str], Member] = field(default_factory=dict)
    uses: list[Use] = field(default_factory=list)
    unknown: list[Unknown] = field(default_factory=list)
    layers: list[str] = field(default_factory=list)
    """The names of the modules that are running, innermost last."""

    def __post_init__(self) -> None:
        self._flowing: Any = WeakTensorKeyDictionary()
        self._transposed: Any = WeakTensorKeyDictionary()
        self._names = {id(tensor): name for name, tensor in self.state.items()}
        self._parameters = {name for name, _ in self.module.named_parameters(remove_duplicate=False)}
        self._opaque: set[str] = set()
        self._seen: set[str] = set()
        self.stops: dict[str, None] = {}
        self.tried: dict[tuple[Any, str], bool] = {}

    @property
    def layer(self) -> str:
        """The innermost running module."""
        return self.layers[-1] if self.layers else ""

    def _place(self, why: str) -> str:
        return f"{self.layer or 'the model'}: {why}"

    # What tensors are and carry.

    def name(self, tensor: object) -> str | None:
        """The parameter or buffer that this very tensor is."""
        return self._names.get(id(tensor))

    def see(self, tensors: Sequence[Tensor]) -> None:
        """Remembers which parameters took part."""
        self._seen.update(name for name in map(self.name, tensors) if name is not None)

    def transpose(self, out: Tensor, name: str) -> None:
        """Remembers that a tensor is a named matrix, transposed."""
        self._transposed[out] = name

    def transposed(self, tensor: Tensor) -> str | None:
        """The matrix that this tensor is the transpose of."""
        name: str | None = self._transposed.get(tensor)
        return name

    def carries(self, tensor: Tensor) -> bool:
        """Returns True if a computed tensor carries slots."""
        return self._flowing.get(tensor) is not None

    def slots(self, tensor: object) -> Slots | None:
        """The slots that a tensor carries; a parameter that is a vector brings its own."""
        if not isinstance(tensor, Tensor):
            return None
        known: Slots | None = self._flowing.get(tensor)
        name = self.name(tensor)
        if known is not None or name is None:
            return known
        wide = [axis for axis, size in enumerate(tensor.shape) if size > 1]
        if len(wide) != 1:
            return None
        ids = self.member(name, wide[0], tensor.shape[wide[0]], "out")
        return Slots(ids.reshape(tensor.shape), zero=True, constant=True)

    def put(self, tensor: object, slots: Slots | None) -> None:
        """Lets a tensor carry slots; None means that its channels are fixed."""
        if isinstance(tensor, Tensor):
            if slots is None or slots.ids.size <= 1:
                self._flowing.pop(tensor, None)
            else:
                self._flowing[tensor] = slots

    # What is learned.

    def tie(self, left: Ids, right: Ids, why: str) -> None:
        """Ties two rows of channels, position by position."""
        self.ledger.tie(left, right, self._place(why))

    def tie_along(self, ids: Ids, axis: int, why: str) -> None:
        """Ties all positions along one axis to the first one."""
        first = ids.take([0], axis)
        self.tie(first.repeat(ids.shape[axis], axis), ids, why)

    def freeze(self, ids: Ids | None, why: str) -> None:
        """Forbids the removal of these channels."""
        if ids is not None:
            self.ledger.freeze(ids, self._place(why))

    def fixed(self, count: int, why: str) -> Ids:
        """Channels that were never removable."""
        ids = self.ledger.fresh(count)
        self.freeze(ids, why)
        return ids

    def stop(self, tensors: Sequence[Tensor], why: str) -> None:
        """Fixes the channels of all these tensors; parameters among them may not be cut at all."""
        if tensors:
            self.stops[self._place(why)] = None
        for tensor in tensors:
            name = self.name(tensor) or self.transposed(tensor)
            if name is not None:
                self._opaque.add(name)
            elif self.carries(tensor):
                self.freeze(self._flowing[tensor].ids, why)

    def read_as_a_whole(self, tensors: Sequence[Tensor]) -> None:
        """Parameters among these may not be cut, unless they are vectors: nothing follows their axes."""
        for tensor in tensors:
            name = self.name(tensor) or self.transposed(tensor)
            if name is not None and sum(size > 1 for size in tensor.shape) > 1:
                self._opaque.add(name)

    def use(self, weight: str, positions: int) -> None:
        """Counts one application of a weight."""
        self.uses.append(Use(weight, positions))

    def member(
        self,
        name: str,
        dim: int,
        size: int,
        role: Role,
        ids: Ids | None = None,
        *,
        weight: bool = False,
        closes: bool = False,
    ) -> Ids:
        """The ids of one axis of a named tensor; a second use of the same tensor is tied to the first."""
        known = self.members.get((name, dim))
        if known is None:
            ids = self.ledger.fresh(size) if ids is None else ids
            weight = weight and name in self._parameters  # a fixed filter in a buffer follows, but makes nothing new
            self.members[name, dim] = TensorMember(name, dim, role, ids, weight, closes)
            return ids
        if closes and isinstance(known, TensorMember):
            self.members[name, dim] = replace(known, closes=True)
        if ids is not None:
            self.tie(known.ids, ids, f"{name} is used more than once")
        return known.ids

    def setting(self, counts: tuple[tuple[str, int], ...], ids: Ids) -> bool:
        """Declares attributes of the running module that count these channels; False when it has none."""
        owner = self.module.get_submodule(self.layer)
        if any(getattr(owner, name, None) != count for name, count in counts):
            return False
        key = (self.layer, counts[0][0])
        known = self.members.get(key)
        if known is None:
            self.members[key] = SettingMember(self.layer, counts, ids)
        else:
            self.tie(known.ids, ids, "runs more than once")
        return True

    # What it comes to.

    def tensor_members(self) -> Iterator[TensorMember]:
        """The axes of parameters and buffers that carry channels."""
        return (member for member in self.members.values() if isinstance(member, TensorMember))

    def unseen(self) -> tuple[str, ...]:
        """Parameters that took no part in what has run."""
        return tuple(name for name, _ in self.module.named_parameters() if name not in self._seen)

    def finish(self) -> None:
        """Fixes what touches a parameter that some operator reads as a whole."""
        for member in self.tensor_members():
            if member.tensor in self._opaque:
                self.ledger.freeze(member.ids, f"{member.tensor} is also read as a whole")
