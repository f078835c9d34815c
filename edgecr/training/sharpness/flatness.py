"""The flatness of a minimum: the largest rise of the loss nearby, and the largest curvature.

Everything is measured in evaluation mode, in float32 and on the same images each time, so that two models
can be compared; the module comes back as it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgecr.core.errors import WorkError
from edgecr.data.batches import epoch_order
from edgecr.data.views import LearningData
from edgecr.surgery.tracing.running import running
from edgecr.training.inputs import Inputs
from edgecr.training.losses import CrossEntropy, Loss
from edgecr.training.order import order_for
from edgecr.training.sharpness.ascent import displaced

Batches = Iterable[tuple[Tensor, Tensor]]
"""Inputs and labels, on the module's device; looked through many times."""


@dataclass(frozen=True)
class Flatness:
    """The shape of a model's loss around its weights."""

    loss: float
    """At the weights themselves."""
    rise: float
    """The largest one found within ``rho``, by several steps uphill."""
    one_step: float
    """The one that SAM sees: a single step of length ``rho`` along the gradient."""
    eigenvalue: float
    """The largest curvature, of the Hessian; negative where the loss bends down the most."""
    rho: float
    images: int


def flatness(
    module: nn.Module,
    data: LearningData,
    *,
    loss: Loss | None = None,
    rho: float = 0.05,
    images: int = 512,
    steps: int = 10,
    seed: int = 0,
) -> Flatness:
    """Measures a module on some of the training images, the same ones for the same seed, not augmented."""
    loss = loss or CrossEntropy()
    chosen = Chosen.of(module, data, images, seed)
    return Flatness(
        loss=Terrain(module, loss, chosen).height(),
        rise=sharpness(module, loss, chosen, rho, steps),
        one_step=one_step(module, loss, chosen, rho),
        eigenvalue=top_eigenvalue(module, loss, chosen, seed=seed),
        rho=rho,
        images=len(chosen.labels),
    )


def sharpness(module: nn.Module, loss: Loss, batches: Batches, rho: float = 0.05, steps: int = 10) -> float:
    """The largest rise of the loss within radius ``rho``: the best of some steps uphill, or 0."""
    terrain = Terrain(module, loss, batches)
    start, slope = terrain.slope()
    best, place = 0.0, torch.zeros_like(slope)
    for _ in range(steps):
        place = _into_ball(place + _of_length(slope, rho), rho)
        height, slope = terrain.slope(place)
        best = max(best, height - start)
    return best


def one_step(module: nn.Module, loss: Loss, batches: Batches, rho: float = 0.05) -> float:
    """The rise of the loss at the point that SAM climbs to; below zero where the slope misleads."""
    terrain = Terrain(module, loss, batches)
    start, slope = terrain.slope()
    return terrain.height(_of_length(slope, rho)) - start


def top_eigenvalue(
    module: nn.Module,
    loss: Loss,
    batches: Batches,
    iterations: int = 100,
    tolerance: float = 1e-3,
    seed: int = 0,
) -> float:
    """The eigenvalue of the loss's Hessian that is farthest from zero, with its sign, by power iteration."""
    terrain = Terrain(module, loss, batches)
    direction = _of_length(terrain.random(seed), 1.0)
    value = math.nan
    for _ in range(iterations):
        product = terrain.bend(direction)
        before, value = value, float(product @ direction)
        if abs(value - before) <= tolerance * abs(value) or not bool(product.any()):
            break
        direction = _of_length(product, 1.0)
    return value


class Terrain:
    """The loss as a function of where the weights are moved to, as one long vector."""

    def __init__(self, module: nn.Module, loss: Loss, batches: Batches) -> None:
        self.module, self.loss, self.batches = module, loss, batches
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        if not self.parameters:
            raise WorkError("Flatness cannot be measured: the model has no parameters that are trained.")
        self.images = sum(len(labels) for _, labels in batches)

    def height(self, place: Tensor | None = None) -> float:
        """The mean loss of an image, with the weights moved."""
        with self._at(place), torch.no_grad():
            return self._number(sum(part.item() for part in self._parts()))

    def slope(self, place: Tensor | None = None) -> tuple[float, Tensor]:
        """The mean loss and its gradient."""
        height, slope = 0.0, self._zeros()
        with self._at(place):
            for part in self._parts():
                height += part.item()
                slope += self._flat(torch.autograd.grad(part, self.parameters, allow_unused=True))
        return self._number(height), slope

    def bend(self, direction: Tensor) -> Tensor:
        """The product of the Hessian and a direction, by differentiating twice."""
        product = self._zeros()
        with self._at(None):
            for part in self._parts():
                slopes = torch.autograd.grad(part, self.parameters, create_graph=True, allow_unused=True)
                along = self._flat(slopes) @ direction
                if along.requires_grad:
                    product += self._flat(torch.autograd.grad(along, self.parameters, allow_unused=True))
        return product

    def random(self, seed: int) -> Tensor:
        """A normal draw that is the same on every device."""
        zeros = self._zeros()
        return torch.randn(len(zeros), generator=torch.Generator().manual_seed(seed)).to(zeros)

    @contextmanager
    def _at(self, place: Tensor | None) -> Iterator[None]:
        moves = [] if place is None else list(zip(self.parameters, self._shaped(place)))
        repeatable = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
        exact = torch.autocast(self.parameters[0].device.type, enabled=False)
        with running(self.module), displaced(moves), torch.enable_grad(), repeatable, exact:
            yield

    def _parts(self) -> Iterator[Tensor]:
        """Yields the contribution of each batch to the mean loss."""
        for inputs, labels in self.batches:
            loss, _ = self.loss.step(self.module, [inputs] * self.loss.views, labels)
            yield loss * (len(labels) / self.images)

    def _zeros(self) -> Tensor:
        return self.parameters[0].new_zeros(sum(p.numel() for p in self.parameters)).detach()

    def _flat(self, tensors: Sequence[Tensor | None]) -> Tensor:
        parts = [torch.zeros_like(p) if t is None else t for t, p in zip(tensors, self.parameters)]
        return torch.cat([part.reshape(-1) for part in parts])

    def _shaped(self, vector: Tensor) -> list[Tensor]:
        parts = torch.split(vector, [p.numel() for p in self.parameters])
        return [part.view(p.shape) for part, p in zip(parts, self.parameters)]

    def _number(self, height: float) -> float:
        if not math.isfinite(height):
            raise WorkError(f"Flatness cannot be measured: the loss is {height} at or near the weights.")
        return height


@dataclass(frozen=True)
class Chosen:
    """Some images of a set, normalised a batch at a time."""

    pixels: Tensor
    labels: Tensor
    inputs: Inputs
    batch: int = 128

    @classmethod
    def of(cls, module: nn.Module, data: LearningData, images: int, seed: int) -> Chosen:
        """Training images that only the seed chooses, for the device of the module."""
        device = next((p.device for p in module.parameters()), torch.device("cpu"))
        indices = epoch_order(len(data.train), seed, 0)[:images]
        labels = torch.from_numpy(data.train.labels[indices]).to(device)
        inputs = Inputs(data.preprocessing, device, order_for(module, data.preprocessing.size))
        return cls(data.train.images(indices), labels, inputs)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for pixels, labels in zip(torch.split(self.pixels, self.batch), torch.split(self.labels, self.batch)):
            yield self.inputs.normalise(pixels), labels


def _of_length(vector: Tensor, length: float) -> Tensor:
    norm = torch.linalg.vector_norm(vector)
    return vector * torch.where(norm > 0, length / norm, norm)


def _into_ball(vector: Tensor, radius: float) -> Tensor:
    norm = torch.linalg.vector_norm(vector)
    return vector * (radius / norm).clamp(max=1) if radius else torch.zeros_like(vector)
