"""Sharpness-aware updates: climb to the worst point nearby, and descend with the gradient found there.

An ascent keeps no state of its own: a resumed training climbs the same way, bit by bit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from edgecr.training.masks import Masks
from edgecr.training.optimisers import Descent, Outcome
from edgecr.training.sharpness import options as declared
from edgecr.training.sharpness.neurons import Importance, NeuronLayer, Part, filter_norms, layers_of, rows
from edgecr.training.sharpness.options import Bounds

Move = tuple[Tensor, Tensor]
"""A parameter, and what is added to it."""

_GUARD = 1e-12


class Ascent(ABC):
    """Finds the worst point nearby from the gradients that the parameters hold."""

    @abstractmethod
    def __call__(self) -> list[Move]:
        """The way there; parameters without a gradient stay."""


class Ball(Ascent):
    """SAM: one step of length ``rho`` along the gradient of all parameters together (Foret et al. 2021)."""

    def __init__(self, module: nn.Module, rho: float) -> None:
        self.parameters = dict(module.named_parameters())
        self.rho = rho

    @torch.no_grad()
    def __call__(self) -> list[Move]:
        """``rho * T^2 g / |T g|``, where T is 1 here."""
        moved = [(name, p, p.grad) for name, p in self.parameters.items() if p.grad is not None]
        if not moved:
            return []
        slopes = [self.stretched(name, p, gradient) for name, p, gradient in moved]
        scale = self.rho / (norm(slopes) + _GUARD)
        return [(p, self.stretched(name, p, s) * scale) for (name, p, _), s in zip(moved, slopes)]

    def stretched(self, name: str, parameter: Tensor, values: Tensor) -> Tensor:
        """The values times the parameter's T."""
        return values


class StretchedBall(Ball):
    """ASAM: the ball is stretched by each weight's own size; biases are not (Kwon et al. 2021)."""

    def __init__(self, module: nn.Module, rho: float, eta: float) -> None:
        super().__init__(module, rho)
        self.eta = eta

    def stretched(self, name: str, parameter: Tensor, values: Tensor) -> Tensor:
        """The values times ``|w| + eta`` for weights."""
        return values * (parameter.abs() + self.eta) if "weight" in name.rpartition(".")[2] else values


class NeuronBalls(Ascent):
    """AdaSAP: a ball for each neuron, the larger the less it matters (Bair et al. 2024).

    The denominator of the paper's equation 5 is read as ``|T g|``, which its equation 4 asks for.
    """

    def __init__(
        self,
        layers: Sequence[NeuronLayer],
        bounds: Callable[[], Bounds],
        *,
        eta: float | None = None,
        scope: str = "global",
        importance: Importance = filter_norms,
        masks: Masks | None = None,
    ) -> None:
        self.layers, self.bounds, self.eta, self.scope = layers, bounds, eta, scope
        self.importance, self.masks = importance, masks

    @torch.no_grad()
    def __call__(self) -> list[Move]:
        """``rho_i * T^2 g_i / |T g_i|`` for each neuron i."""
        layers = [layer for layer in self.layers if layer.weight.grad is not None]
        radii = self.radii(layers)
        return [move for layer, radius in zip(layers, radii) for move in self._moves(layer, radius)]

    def _moves(self, layer: NeuronLayer, radius: Tensor) -> Iterator[Move]:
        slopes = [(p, self._stretched(p, g)) for p in layer.parts if (g := p.parameter.grad) is not None]
        lengths = torch.stack([torch.linalg.vector_norm(rows(slope), dim=1) for _, slope in slopes])
        scale = radius / (torch.linalg.vector_norm(lengths, dim=0) + _GUARD)
        for part, slope in slopes:
            factor = scale.view(-1, *[1] * (slope.ndim - 1))
            yield part.parameter, self._stretched(part, slope) * factor

    def _stretched(self, part: Part, values: Tensor) -> Tensor:
        if self.eta is None or not part.is_weight:
            return values
        return values * (part.parameter.abs() + self.eta)

    @torch.no_grad()
    def radii(self, layers: Sequence[NeuronLayer]) -> list[Tensor]:
        """One radius for each neuron: the largest for the least important one, the smallest for the most."""
        smallest, largest = self.bounds()
        shares = self._shares(layers)
        return [torch.lerp(share.new_tensor(largest), share.new_tensor(smallest), share) for share in shares]

    def _shares(self, layers: Sequence[NeuronLayer]) -> list[Tensor]:
        """The importance of each neuron among those it is compared with, from 0 to 1; 1 where none can be pruned."""
        scores = [self.importance(layer.name, layer.module) for layer in layers]
        compared = {layer.name: self._ends(layer, score) for layer, score in zip(layers, scores) if score is not None}
        if self.scope == "global" and compared:
            lowest, highest = torch.stack(list(compared.values())).unbind(1)
            compared = dict.fromkeys(compared, torch.stack([lowest.amin(), highest.amax()]))
        return [
            _share(score.to(layer.weight), compared[layer.name])
            if score is not None
            else layer.weight.new_ones(len(layer.weight))
            for layer, score in zip(layers, scores)
        ]

    def _ends(self, layer: NeuronLayer, score: Tensor) -> Tensor:
        """The lowest and the highest score of the neurons that are not pruned yet."""
        alive = self.masks.alive(layer.name) if self.masks else None
        if alive is None:
            alive = torch.ones_like(score, dtype=torch.bool)
        lowest, highest = (torch.where(alive, score, end) for end in (torch.inf, -torch.inf))
        return torch.stack([lowest.amin(), highest.amax()]).to(layer.weight)


def _share(score: Tensor, ends: Tensor) -> Tensor:
    """Scales scores to the range between two ends, from 0 to 1; 0 where both ends are the same."""
    lowest, highest = ends
    share = ((score - lowest) / (highest - lowest)).clamp(0, 1)
    return torch.where(highest > lowest, share, torch.zeros_like(share))


def norm(values: Iterable[Tensor]) -> Tensor:
    """The Euclidean norm of all values together."""
    norms = torch.stack([torch.linalg.vector_norm(value) for value in values])
    together: Tensor = torch.linalg.vector_norm(norms)
    return together


@contextmanager
def displaced(moves: Sequence[Move]) -> Iterator[None]:
    """Parameters moved away for a while; they come back to the same bits, whatever happens."""
    before = [parameter.detach().clone() for parameter, _ in moves]
    with torch.no_grad():
        for parameter, change in moves:
            parameter.add_(change)
    try:
        yield
    finally:
        with torch.no_grad():
            for (parameter, _), value in zip(moves, before):
                parameter.copy_(value)


@contextmanager
def buffers_kept(module: nn.Module) -> Iterator[None]:
    """Running statistics that come out as they went in: those of a displaced point are nobody's."""
    before = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)


class SharpDescent:
    """A descent whose gradient comes from the worst point nearby: twice the passes, the same update."""

    def __init__(
        self,
        descent: Descent,
        ascent: Ascent,
        module: nn.Module,
        alone: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self.descent, self.ascent, self.module = descent, ascent, module
        self.alone = alone
        """Keeps the first pass from being shared: each process climbs on its own images."""

    def __call__(self, gradients: Callable[[], Outcome]) -> Outcome:
        """Climbs, looks around, comes back and descends; tells what came out at the point itself."""
        with self.alone():
            outcome = gradients()
        masks = self.descent.masks
        masks.clear_gradients(hidden=True)  # what the network does not see has no part in the climb
        with masks.applied():
            moves = self.ascent()

        def uphill() -> Outcome:
            with displaced(moves), buffers_kept(self.module):
                gradients()
            return outcome

        return self.descent(uphill)


def ascent(
    sharpness: declared.Sharpness,
    module: nn.Module,
    *,
    epoch: Callable[[], int],
    input_shape: tuple[int, ...],
    importance: Importance = filter_norms,
    masks: Masks | None = None,
) -> Ascent:
    """The ascent that was declared; ``epoch`` tells the present one, counted from 0."""
    if isinstance(sharpness, declared.Sam):
        return Ball(module, sharpness.rho)
    if isinstance(sharpness, declared.Asam):
        return StretchedBall(module, sharpness.rho, sharpness.eta)
    assert isinstance(sharpness, declared.AdaSap), f"{sharpness.kind} has no ascent"
    layers = layers_of(module, input_shape if sharpness.include_bn else None)
    eta = sharpness.stretch if sharpness.flavour == "asam" else None

    def bounds() -> Bounds:
        return sharpness.bounds(epoch())

    return NeuronBalls(layers, bounds, eta=eta, scope=sharpness.scope, importance=importance, masks=masks)
