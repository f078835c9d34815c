"""Training with rounded numbers: a loss whose forward pass computes as an 8-bit file will."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.utils.parametrize import is_parametrized

from edgecr.training.losses.base import Loss

WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
"""The layers whose inputs and weights are rounded."""
_LEVELS = 255
_PACE = 0.05
"""Share of a batch's range in the mean of all ranges so far."""


class RoundedLoss(Loss):
    """Another loss, with the weights of every layer rounded by channel and its inputs within their usual range.

    Gradients pass the rounding as if it was not there, except where a value lies beyond its range.
    """

    def __init__(self, inner: Loss, weight_bits: int) -> None:
        self.inner, self.weight_bits, self.views = inner, weight_bits, inner.views
        self.ranges: dict[str, Tensor] = {}
        """The lowest and the highest input of each layer, followed slowly."""

    def place(self, device: torch.device, size: tuple[int, int]) -> None:
        """Moves the ranges and the inner loss."""
        self.ranges = {name: each.to(device) for name, each in self.ranges.items()}
        self.inner.place(device, size)

    def step(self, model: nn.Module, views: Sequence[Tensor], targets: Any) -> tuple[Tensor, Tensor]:
        """The inner loss of the rounded model."""
        with self.applied(getattr(model, "module", model)):
            return self.inner.step(model, views, targets)

    @contextlib.contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """Rounds the layers of a module while it lasts; the parameters themselves stay as they are."""
        layers = {name: each for name, each in module.named_modules() if isinstance(each, WEIGHTED)}
        hooks = [
            hook
            for name, layer in layers.items()
            for hook in (
                layer.register_forward_pre_hook(self._before(name)),
                layer.register_forward_hook(_restore, always_call=True),
            )
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _before(self, name: str) -> Any:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            # A latent weight is seen as signs with a magnitude, which any number of bits holds as they are.
            if not is_parametrized(layer, "weight"):
                # An entry of the instance hides the parameter, which keeps its place in state_dict and optimiser.
                layer.__dict__["weight"] = rounded_weight(layer.get_parameter("weight"), self.weight_bits)
            if layer.training:
                self._follow(name, inputs[0])
            return (rounded_input(inputs[0], self.ranges[name]), *inputs[1:]) if name in self.ranges else inputs

        return hook

    def _follow(self, name: str, values: Tensor) -> None:
        """Draws the range of a layer towards that of a batch; zero is always inside."""
        low, high = values.detach().float().aminmax()
        seen = torch.stack([-low, high]).clamp_min(0)
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(seen, distributed.ReduceOp.MAX)
        before = self.ranges.get(name, seen)
        self.ranges[name] = before + _PACE * (seen - before)

    def identity(self) -> dict[str, Any]:
        """The bits of the weights and the inner loss."""
        return {"loss": "rounded", "weight_bits": self.weight_bits, "inner": self.inner.identity()}

    def state(self) -> dict[str, Tensor]:
        """The ranges, and what the inner loss keeps."""
        ranges = {f"range/{name}": each for name, each in self.ranges.items()}
        return ranges | {f"inner/{name}": each for name, each in self.inner.state().items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes both back."""

        def part(start: str) -> dict[str, Tensor]:
            return {name.removeprefix(start): each for name, each in tensors.items() if name.startswith(start)}

        device = next(iter(self.ranges.values())).device if self.ranges else None
        self.ranges = {name: each.to(device) for name, each in part("range/").items()}
        self.inner.restore(part("inner/"))


def _restore(layer: nn.Module, inputs: Any, output: Any) -> None:
    layer.__dict__.pop("weight", None)


def rounded_weight(weight: Tensor, bits: int) -> Tensor:
    """A weight in signed integers of so many bits, with a scale for each output channel and zero at 0.

    A normalisation behind the layer may be folded into it afterwards: that only changes the scales.
    """
    most = 2 ** (bits - 1) - 1
    largest = weight.detach().float().flatten(1).abs().amax(dim=1)
    scale = torch.where(largest > 0, largest / most, torch.ones_like(largest))
    zero = torch.zeros_like(scale, dtype=torch.int32)
    with torch.autocast(weight.device.type, enabled=False):
        return torch.fake_quantize_per_channel_affine(weight.float(), scale, zero, 0, -most, most)


def rounded_input(values: Tensor, limits: Tensor) -> Tensor:
    """Values in 256 steps between minus the first and the second limit, one of which is zero itself."""
    below, above = limits
    scale = torch.clamp((below + above) / _LEVELS, min=torch.finfo(torch.float32).tiny)
    zero = torch.round(below / scale).clamp(0, _LEVELS).to(torch.int32)
    with torch.autocast(values.device.type, enabled=False):
        made = torch.fake_quantize_per_tensor_affine(values.float(), scale, zero, 0, _LEVELS)
    return made.to(values.dtype)
