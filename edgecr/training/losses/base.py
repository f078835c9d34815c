"""The contract of losses: how one is declared, and how it is computed. Torch-free: recipes are checked with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from edgecr.core.named import OptionsIn
from edgecr.core.options import Options
from edgecr.core.registry import Registry

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from edgecr.subject import Subject
    from edgecr.training.context import StepContext


class Loss(ABC):
    """The quantity that a training minimises. It owns the forward pass, and everything that the pass needs."""

    views: int = 1
    """Augmented copies of each image that it asks for; the first is the only one that a plain training sees."""

    @abstractmethod
    def step(self, model: nn.Module, views: Sequence[Tensor], targets: Any) -> tuple[Tensor, Tensor]:
        """The mean loss of a batch, and for each image how right its answer is, from 0 to 1.

        Called inside the training's autocast, with ``sharpness`` twice for an update. Each view is a batch of
        normalised NCHW images. Layers of the model are reached by ``model.get_submodule(name)``, for example to hook
        their outputs. Several views belong into one forward pass (``torch.cat``): batch norm sees them together, and
        several processes exchange gradients once.
        """

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Plain JSON values that tell this loss from any other one, its teacher's tensors included."""

    def place(self, device: torch.device, size: tuple[int, int]) -> None:
        """Moves the loss's own tensors to where training runs on images of that height and width."""
        return

    def state(self) -> dict[str, Tensor]:
        """The tensors that change from update to update, for checkpoints; the same ones in every process."""
        return {}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes over what ``state`` gave to the checkpoint that training resumes from."""
        return


class LossOptions(Options):
    """The declaration of a loss; the fields of a subclass are its keys below ``loss: {NAME: …}``."""

    @classmethod
    def resolve(cls, options: dict[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
        """Completes the raw options from the rest of the raw recipe, before they are checked."""
        return options

    @property
    def reads_baseline(self) -> bool:
        """True for a loss that needs the run's baseline."""
        return False

    @property
    def needs_labels(self) -> bool:
        """False for a loss that never looks at the targets."""
        return True

    @abstractmethod
    def build(self, before: Subject, context: StepContext) -> Loss:
        """The loss itself, in a step that began with the subject ``before``."""


losses: Registry[type[LossOptions]] = Registry("loss")
AnyLoss = Annotated[LossOptions, OptionsIn(losses)]
"""The field type of a declared loss: ``{NAME: {…}}``, or a name alone."""


def completed(options: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The raw options of a training, with those of its loss completed from the rest of the raw recipe."""
    declared = options.get("loss")
    if not isinstance(declared, Mapping):
        return dict(options)
    return {**options, "loss": {name: _completed(name, inner, recipe) for name, inner in declared.items()}}


def _completed(name: Any, options: Any, recipe: Mapping[str, Any]) -> Any:
    known = name in losses and isinstance(options, Mapping)
    return losses.get(name).resolve(dict(options), recipe) if known else options
