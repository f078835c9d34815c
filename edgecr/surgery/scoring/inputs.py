"""The inputs of scores: the weights, and training images if there are any; never test images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from torch import Tensor, nn
from torch.nn import functional

from edgecr.core.errors import RequestError
from edgecr.surgery.repair.moments import Moments, input_moments
from edgecr.surgery.scoring.obs import output_scales
from edgecr.surgery.scoring.pfp import Reader, read_sensitivities
from edgecr.surgery.scoring.taylor import Batch, Loss, Products, products

T = TypeVar("T")


@dataclass(frozen=True)
class ScoringInputs:
    """The data that scores may use, with the settings for comparisons and random draws."""

    module: nn.Module
    normalise: bool = False
    """Divide by what the number of inputs of a filter adds to its norm."""
    seed: int = 0
    batches: Iterable[Batch] = ()
    """Images for the scores that need some; they are only fetched when one does."""
    loss: Loss = functional.cross_entropy
    most: int | None = None
    """Images that a score which chooses its own sample may take at most."""
    ready: Sequence[Products] = ()
    """Products that are at hand already, as in an update of a training; the images are not asked then."""
    say: Callable[[str], None] | None = None
    """Callback that receives the cost of a long pass over the images, before it begins."""

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers by name."""
        return dict([*self.module.named_parameters(), *self.module.named_buffers()])

    @cached_property
    def products(self) -> list[Products]:
        """Weight times gradient of each mini-batch."""
        return list(self.ready) or self._some(list(products(self.module, self.batches, self.loss)))

    @cached_property
    def sensitivities(self) -> dict[str, Reader]:
        """PFP's sensitivities of each weight."""
        found = read_sensitivities(self.module, (images for images, _ in self.batches), self.most, self.say)
        return dict(self._some(list(found.items())))

    @cached_property
    def moments(self) -> dict[str, Moments]:
        """Second moments of what each layer reads."""
        images = self._some([images for images, _ in self.batches])
        weights = [name for name, tensor in self.tensors.items() if tensor.dim() > 1]
        return input_moments(self.module, images, weights, seed=self.seed)

    @cached_property
    def output_scales(self) -> dict[str, Tensor]:
        """The factors that batch norms give the outputs of the layers in front of them."""
        return output_scales(self.module, self._some([images for images, _ in self.batches])[0])

    @staticmethod
    def _some(found: list[T]) -> list[T]:
        """A score that needs images is not computed without any."""
        if not found:
            raise RequestError("This score needs training or calibration images, and there are none.")
        return found
