"""The base class of methods, and their registry.

Method modules are read to check a recipe, which happens before torch is imported: they import torch, and
whatever needs torch, inside their functions only.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from edgecr.core.errors import RequestError
from edgecr.core.options import Options
from edgecr.core.registry import Registry
from edgecr.training.context import StepContext

if TYPE_CHECKING:
    from edgecr.subject import Subject


class Method(Options):
    """One way to compress or train; the fields of a subclass are its options, and their YAML keys."""

    compresses: ClassVar[bool] = False
    """True if the model before this step is the uncompressed baseline that everything is compared with."""
    reads_baseline: ClassVar[bool] = False
    """True if the method asks for the run's baseline, which its result then depends on."""
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Named option values, chosen by ``preset: NAME``; keys beside it win."""
    renamed: ClassVar[Mapping[str, str]] = {}
    """New names of keys by their old ones, which are refused."""
    records: ClassVar[tuple[str, ...]] = ()
    """Names of the records that every finished step of this method has; a step without them is not verified."""

    @property
    def needs_labels(self) -> bool:
        """True for a step that cannot work on images without labels."""
        return False

    @property
    def goes_back_to(self) -> int | None:
        """The update of an earlier training whose state the step goes back to; None for a step that does not."""
        return None

    @property
    def promises(self) -> tuple[str, ...]:
        """Names of the figures in the weights that later steps have to keep, such as zeros."""
        return ()

    def misplaced(self, promised: Collection[str]) -> str:
        """The reason why this step cannot work on a model that promises these figures; empty where it can."""
        return ""

    def refuse_misplaced(self, promised: Collection[str]) -> None:
        """Raises a RequestError where the model is none that this step can work on."""
        if reason := self.misplaced(promised):
            raise RequestError(reason)

    @classmethod
    def resolve(cls, options: dict[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
        """Completes the raw options from the rest of the raw recipe, before they are checked."""
        return options

    @abstractmethod
    def apply(self, subject: Subject, context: StepContext) -> Subject:
        """Returns the changed subject; the given one is not kept in use by the caller afterwards."""


methods: Registry[type[Method]] = Registry("method")


def check_labels(name: str, method: Method, labelled: bool) -> None:
    """Raises a RequestError for a step that needs labels, on data that has none."""
    if method.needs_labels and not labelled:
        raise RequestError(
            f"{name} needs labels like this, and the data has none. Without labels work repair, prune (at once; scores "
            "by weights, or pfp), sparsify (at once, but for score: hydra), and any training with only a teacher: "
            "loss: {kd: {alpha: 1}}, keep: last"
        )
