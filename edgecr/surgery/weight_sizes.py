"""Sizes of a model's weights: how many are not zero, and their bytes as papers count them and as files hold them.

Weights are arrays by the name of their parameter; the layers that use them come from a count of the whole model.
Torch-free.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import astuple, dataclass
from typing import Literal

import numpy as np

from edgecr.core.errors import RequestError
from edgecr.surgery.counts import LayerCount
from edgecr.surgery.packing import LEAST_BYTES, MASK, SIGNS, VALUES, PackedWeight, by_cost

Weights = Mapping[str, np.ndarray]
FLOAT_BITS, BINARY_BITS = 32, 1
"""Bits of a weight that is left, in networks of floats and in binary ones."""


@dataclass(frozen=True)
class WeightCount:
    """Weights and multiply-accumulates of a model, and how many of both are left where weights are zero."""

    parameters: int
    nonzeros: int
    macs: int
    sparse_macs: int

    def prune_ratio(self, whole: WeightCount | None = None) -> float:
        """The share of weights that are gone from a whole model; without one, the share that is zero in this one."""
        return _gone(self.nonzeros, (whole or self).parameters)

    def flop_ratio(self, whole: WeightCount | None = None) -> float:
        """The share of multiply-accumulates that are gone from a whole model, those with zeros among them."""
        return _gone(self.sparse_macs, (whole or self).macs)


def count_weights(
    weights: Weights, layers: Iterable[LayerCount], count: Literal["all", "prunable"] = "all"
) -> WeightCount:
    """Counts all parameters, or those that convolutions and linear layers multiply with; their work in both cases."""
    layers = tuple(layers)
    chosen = prunable(weights, layers) if count == "prunable" else weights
    return WeightCount(
        parameters=sum(weight.size for weight in chosen.values()),
        nonzeros=sum(int(np.count_nonzero(weight)) for weight in chosen.values()),
        macs=sum(layer.macs for layer in layers),
        sparse_macs=sum(_sparse_macs(weights, layer) for layer in layers),
    )


def prunable(weights: Weights, layers: Iterable[LayerCount]) -> Weights:
    """The weights of convolutions and linear layers: no biases, and nothing of batch norms."""
    used = {_parameter(weights, layer) for layer in layers if layer.name}
    return {name: weight for name, weight in weights.items() if name in used}


def bytes_without_places(nonzeros: int, bits: int = FLOAT_BITS) -> float:
    """The memory that papers give: so many bits for each weight that is left, and nothing for where it stands."""
    return nonzeros * bits / 8


def paper_bytes(weights: Weights, binary: Collection[str] = ()) -> float:
    """The memory that papers give for a model: 32 bits for each weight that is left, and one in binary tensors."""
    left = {name: int(np.count_nonzero(weight)) for name, weight in weights.items()}
    signs = sum(left[name] for name in binary if name in left)
    return bytes_without_places(sum(left.values()) - signs) + bytes_without_places(signs, BINARY_BITS)


@dataclass(frozen=True)
class StoredBytes:
    """The bytes of a model's weights in each form of storage.

    Vectors are stored as they are, and so is a weight that a form does not fit: one without zeros needs no mask and
    no gaps, and one with several magnitudes in a channel has no signs.
    """

    dense: int
    """Every weight in 32 bits."""
    mask: int
    """One bit for each weight, and the values that are not zero."""
    gaps: int
    """The gaps between values in symbols of 4 or 8 bits, and the values."""
    signs: int
    """One bit for each weight where some are zero, signs of those that are not, and a magnitude for each channel."""
    compact: int
    """The form that a compact file takes for each weight, without the nodes that unpack it."""


def stored_bytes(weights: Weights) -> StoredBytes:
    """The bytes of float32 weights by form, as they are coded in files; shapes and names are not counted."""
    each = [astuple(_stored(_plain(weight))) for weight in weights.values()]
    return StoredBytes(*(sum(column) for column in zip(*each))) if each else StoredBytes(0, 0, 0, 0, 0)


@dataclass(frozen=True)
class EntropyBounds:
    """Bits that no code falls below on average, if the zeros of each weight lie at random, and so do the signs."""

    mask_values: float
    """Of places, and 32 bits for each value."""
    mask_signs: float
    """Of places and signs; magnitudes come on top."""


def entropy_bounds(weights: Weights) -> EntropyBounds:
    """The bounds on the bits of float32 weights, each weight with its own shares of zeros and of signs."""
    places = values = signs = 0.0
    for weight in weights.values():
        left, negative = int(np.count_nonzero(weight)), int(np.count_nonzero(weight < 0))
        places += _bits_of_choice(left, weight.size)
        values += FLOAT_BITS * left
        signs += _bits_of_choice(negative, left)
    return EntropyBounds(places + values, places + signs)


def _gone(left: int, whole: int) -> float:
    return 1 - left / whole if whole else 0.0


def _parameter(weights: Weights, layer: LayerCount) -> str:
    """The parameter that a layer multiplies with."""
    for name in (f"{layer.name}.weight", layer.name):
        if name in weights:
            return name
    raise RequestError(f"No weight is given for the layer {layer.name}: give all parameters of the counted model.")


def _sparse_macs(weights: Weights, layer: LayerCount) -> int:
    """Multiply-accumulates with weights that are not zero; a fixed filter, which no parameter names, counts whole."""
    if not layer.name:
        return layer.macs
    weight = weights[_parameter(weights, layer)]
    return layer.macs * int(np.count_nonzero(weight)) // weight.size  # a slice of a weight has its share of the zeros


def _plain(weight: np.ndarray) -> np.ndarray:
    """A float32 weight whose zeros are all positive, as files hold them."""
    plain: np.ndarray = np.asarray(weight, np.float32) + np.float32(0)
    return plain


def _stored(weight: np.ndarray) -> StoredBytes:
    dense = weight.nbytes
    forms = by_cost(weight) if weight.ndim > 1 and weight.size else []
    smaller = [form for form in forms if form.stored < dense and dense >= LEAST_BYTES]
    return StoredBytes(
        dense=dense,
        mask=_least((form for form in forms if {MASK, VALUES} <= form.parts.keys()), dense),
        gaps=_least((form for form in forms if form.gaps and VALUES in form.parts), dense),
        signs=_least((form for form in forms if SIGNS in form.parts and not form.gaps), dense),
        compact=smaller[0].stored if smaller else dense,
    )


def _least(forms: Iterable[PackedWeight], dense: int) -> int:
    return min((form.stored for form in forms), default=dense)


def _bits_of_choice(taken: int, places: int) -> float:
    """The entropy of so many places, some of which are taken."""
    counts = [count for count in (taken, places - taken) if count]
    return sum(count * math.log2(places / count) for count in counts)
