"""The contract of a change: one entry of a surgery, repeatable on a fresh copy of the architecture."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, ClassVar, TypeVar

from torch import Tensor, nn
from typing_extensions import Self

from edgecr.core.options import Options
from edgecr.core.registry import Registry
from edgecr.surgery.promise import Promise

TAG = "change"
"""The key of a record that names the kind of the change."""
UNTAGGED = "cut"
"""The kind that a record without a tag tells of: the only one when records had no tags."""


class Change(Options):
    """One change to a model; the fields of a subclass are what its record holds."""

    tag: ClassVar[str]
    """The name that the kind is registered under and that its records bear."""

    @abstractmethod
    def replay(self, module: nn.Module) -> None:
        """Repeats the change on a module that has the structure which it was made for."""

    @abstractmethod
    def promise(self, module: nn.Module) -> Promise:
        """Returns what an exported file must show because of this change; ``module`` has just undergone it."""

    def masks(self, module: nn.Module) -> Mapping[str, Tensor]:
        """Parameters of which a later training leaves some entries at zero, by name: false at those entries."""
        return {}

    def latent(self, module: nn.Module) -> AbstractContextManager[None]:
        """The form in which a later training works on the module; afterwards its weights are as the change promises.

        Weights that can take few values only are trained as latent weights, which the network never sees as they are.
        """
        return nullcontext()

    def plain(self) -> dict[str, Any]:
        """The record: plain JSON values with the tag."""
        return {TAG: self.tag} | super().plain()

    @classmethod
    def parse(cls, values: Any) -> Self:
        """Reads a record of this kind, strictly; the tag may be left out."""
        tagged = isinstance(values, Mapping) and values.get(TAG) == cls.tag
        return super().parse({key: value for key, value in values.items() if key != TAG} if tagged else values)


changes: Registry[type[Change]] = Registry("change")
C = TypeVar("C", bound=type[Change])


def register(kind: C) -> C:
    """Decorator that adds a kind of change under its tag."""
    changes.register(kind.tag)(kind)
    return kind


def read_change(record: Any) -> Change:
    """The change that a record tells of; an unknown tag raises with the known ones."""
    tag = record.get(TAG, UNTAGGED) if isinstance(record, Mapping) else UNTAGGED
    return changes.get(tag if isinstance(tag, str) else repr(tag)).parse(record)


def replay(module: nn.Module, surgery: Sequence[Change]) -> None:
    """Repeats recorded changes on a fresh copy of the architecture."""
    for change in surgery:
        change.replay(module)


def promised(module: nn.Module, surgery: Sequence[Change]) -> Promise:
    """Repeats recorded changes on a fresh copy of the architecture; returns the sum of their promises.

    What a change promised for a tensor is weakened where a later change makes that tensor smaller.
    """
    total = Promise()
    for change in surgery:
        before = _sizes(module)
        change.replay(module)
        total = total.after(before, _sizes(module)) + change.promise(module)
    return total


def standing_masks(module: nn.Module, surgery: Sequence[Change]) -> dict[str, Tensor]:
    """The masks that recorded changes demand of a training, one for each parameter: false where an entry is pruned."""
    found: dict[str, Tensor] = {}
    for change in surgery:
        for name, mask in change.masks(module).items():
            found[name] = mask & found[name] if name in found else mask
    return found


@contextmanager
def trainable(module: nn.Module, surgery: Sequence[Change]) -> Iterator[None]:
    """The module in the form that a training works on, as recorded changes demand it."""
    with ExitStack() as stack:
        for change in surgery:
            stack.enter_context(change.latent(module))
        yield


def _sizes(module: nn.Module) -> dict[str, int]:
    return {name: tensor.numel() for name, tensor in module.named_parameters(remove_duplicate=False)}
