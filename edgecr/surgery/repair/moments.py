"""Second moments of what layers read in a model as it is: what refits of its weights rest on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from edgecr.surgery.repair.least_squares import LARGEST
from edgecr.surgery.repair.rows import input_rows, places, positions
from edgecr.surgery.repair.stream import OperatorCall, Stream, run
from edgecr.surgery.repair.structure import Structure, structure
from edgecr.surgery.tracing.running import running, state_of


@dataclass
class Moments:
    """Sums over rows of a layer's inputs, a matrix for each group of the convolution."""

    gram: Tensor
    """Sums of products, shape (groups, unknowns, unknowns)."""
    total: Tensor
    """Sums, shape (groups, unknowns)."""
    rows: int = 0

    @property
    def mean(self) -> Tensor:
        """Mean inputs, shape (groups, unknowns)."""
        return self.total / self.rows

    @property
    def covariance(self) -> Tensor:
        """Mean products of centred inputs, shape (groups, unknowns, unknowns)."""
        return self.gram / self.rows - self.mean[:, :, None] * self.mean[:, None, :]


def input_moments(
    module: nn.Module, images: Sequence[Tensor], weights: Collection[str], count: int = 16, seed: int = 0
) -> dict[str, Moments]:
    """The moments of the layers with these weights, over chunks of images.

    Layers that cannot be refitted, or read too much for a matrix of it, are left out.
    """
    found: dict[str, Moments] = {}
    with running(module):
        known = structure(module, images[0][:2])
        for number, chunk in enumerate(images):
            run(module, chunk, _Summing(module, known, frozenset(weights), found, (number, len(chunk), count, seed)))
    return found


class _Summing(Stream):  # type: ignore[no-untyped-call]
    """Adds the inputs of one chunk of images to the sums."""

    def __init__(
        self,
        module: nn.Module,
        known: Structure,
        weights: Collection[str],
        into: dict[str, Moments],
        chunk: tuple[int, int, int, int],
    ) -> None:
        self._state = state_of(module)
        super().__init__(self._state)
        self._known, self._weights, self._into = known, weights, into
        self._chunk, self._images, self._count, self._seed = chunk

    @override
    def after(self, call: OperatorCall, out: Any) -> None:
        use = self._known.uses.get(call.number)
        if use is None or use.weight not in self._weights or call.layer is None:
            return
        if self._state[use.weight][0].numel() > LARGEST:
            return
        available = places(out, self._images, convolution=bool(call.layer.geometry))
        chosen = positions(use, self._chunk, self._count, available, self._seed)
        rows = input_rows(call.layer, self._state[use.weight], self._images, chosen)
        parts = rows.reshape(len(rows), call.layer.groups, -1).transpose(0, 1)
        gram, total = (parts.transpose(1, 2) @ parts).double(), parts.sum(1, dtype=torch.float64)
        known = self._into.setdefault(use.weight, Moments(torch.zeros_like(gram), torch.zeros_like(total)))
        known.gram += gram
        known.total += total
        known.rows += len(rows)
