"""Weights in fewer bytes without loss: where they are not zero, and what they are there, each in its shortest code.

Places are a mask of bits or the gaps between non-zero weights, in symbols of 4 or 8 bits. The largest symbol stands for
a run of zeros of its own length with no weight behind it. What stands at the places are values, or signs with one
magnitude for each output channel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from edgecr.core.errors import FileProblem

MASK, VALUES, SIGNS, SCALES = "mask", "values", "signs", "scales"
GAPS = {"gaps4": 4, "gaps8": 8}
"""Codes of gaps, and the bits of their symbols."""
MOST_BYTES = 2_000_000_000
"""Weights that an ONNX file could hold as they are; no packed ones may become more."""
_MOST_FOR_A_BYTE = 256
"""Weights that one stored byte may stand for: a symbol of 8 bits is a run of at most 255 zeros."""


@dataclass(frozen=True)
class PackedWeight:
    """A float32 weight in one of the forms; its parts by name decide which."""

    shape: tuple[int, ...]
    parts: Mapping[str, np.ndarray]

    @property
    def size(self) -> int:
        """The number of weights."""
        return math.prod(self.shape)

    @property
    def gaps(self) -> str:
        """The code of the gaps; empty where places are a mask, or where no weight is zero."""
        return next((name for name in GAPS if name in self.parts), "")

    @property
    def span(self) -> int:
        """The places that the gaps reach over: as many as there are weights, or a few more."""
        return int(_steps(self._symbols(), GAPS[self.gaps]).sum())

    @property
    def stored(self) -> int:
        """The bytes of all parts."""
        return sum(part.nbytes for part in self.parts.values())

    def weight(self) -> np.ndarray:
        """The weight, bit by bit as it was; FileProblem for parts that do not fit one another."""
        if self.size * 4 > MOST_BYTES or self.size > _MOST_FOR_A_BYTE * (self.stored + 1):
            raise FileProblem(f"a packed weight of {list(self.shape)} cannot come out of {self.stored:,} bytes")
        flat = np.zeros(self.size, np.float32)
        places = self._places()
        flat[places] = self._at(len(places))
        if SCALES in self.parts:
            flat = (flat.reshape(self.shape[0], -1) * self.parts[SCALES][:, None]).ravel()
        return flat.reshape(self.shape)

    def _symbols(self) -> np.ndarray:
        stored = self.parts[self.gaps].ravel()
        return np.stack([stored >> 4, stored & 15], 1).ravel() if GAPS[self.gaps] == 4 else stored

    def _places(self) -> np.ndarray:
        """The places of weights that are not zero."""
        if self.gaps:
            symbols, bits = self._symbols(), GAPS[self.gaps]
            ends = np.cumsum(_steps(symbols, bits), dtype=np.int64)
            places: np.ndarray = ends[symbols < _escape(bits)] - 1
            whole = len(ends) > 0 and ends[-1] >= self.size
        elif MASK in self.parts:
            places = np.flatnonzero(_bits(self.parts[MASK]))
            whole = self.parts[MASK].size == _bytes(self.size)
        else:
            return np.arange(self.size)
        if not whole or not len(places) or places[-1] >= self.size:
            raise FileProblem("the places of a packed weight do not fit its shape")
        return places

    def _at(self, count: int) -> np.ndarray:
        """The numbers at so many places."""
        if VALUES in self.parts:
            values = self.parts[VALUES]
            fits = len(values) == count
        else:
            values = 1 - 2 * _bits(self.parts[SIGNS]).astype(np.float32)
            fits = self.parts[SIGNS].size == _bytes(count) and len(self.parts[SCALES]) == self.shape[0]
        if not fits:
            raise FileProblem(f"a packed weight has {count:,} places, and another number of weights for them")
        return values[:count]


def forms_of(weight: np.ndarray) -> Iterator[PackedWeight]:
    """The forms that a float32 weight may be stored in; each gives it back, but for the sign of a negative zero."""
    flat = np.ascontiguousarray(weight).ravel()
    places = np.flatnonzero(flat.view(np.uint32))
    if not len(places):
        places = np.zeros(1, np.int64)  # one zero stands for itself: an empty part is nothing that a graph can work on
    scales = _magnitudes(weight)
    numbers = [{VALUES: flat[places]}] + ([] if scales is None else [{SIGNS: _signs(flat[places]), SCALES: scales}])
    everywhere = len(places) == flat.size
    spots = [{}] if everywhere else [{MASK: _mask(places, flat.size)}, *_gap_codes(places, flat.size)]
    for spot in spots:
        for number in numbers:
            if spot or SIGNS in number:
                yield PackedWeight(weight.shape, spot | number)


def _gap_codes(places: np.ndarray, size: int) -> Iterator[dict[str, np.ndarray]]:
    zeros = np.diff(places, prepend=-1) - 1
    for name, bits in GAPS.items():
        escape = _escape(bits)
        ends = np.cumsum(zeros // escape + 1)
        tail = -(-(size - 1 - int(places[-1])) // escape)
        symbols = np.full(int(ends[-1]) + tail, escape, np.uint8)
        symbols[ends - 1] = zeros % escape
        if bits == 4:
            even = np.append(symbols, np.full(len(symbols) % 2, escape, np.uint8))
            symbols = np.left_shift(even[0::2], 4) | even[1::2]
        yield {name: symbols[:, None]}


def _magnitudes(weight: np.ndarray) -> np.ndarray | None:
    """The one magnitude of each output channel; None where some channel has several, or one that is not finite."""
    if weight.ndim < 2:
        return None
    rows = np.abs(weight.reshape(len(weight), -1))
    scales: np.ndarray = rows.max(axis=1, initial=0.0)
    alike = bool(((rows == scales[:, None]) | (rows == 0)).all() and np.isfinite(scales).all())
    return scales if alike else None


def _mask(places: np.ndarray, size: int) -> np.ndarray:
    bits = np.zeros(size, np.uint8)
    bits[places] = 1
    return np.packbits(bits)[:, None]


def _signs(values: np.ndarray) -> np.ndarray:
    return np.packbits(values < 0)[:, None]


def _bits(stored: np.ndarray) -> np.ndarray:
    bits: np.ndarray = np.unpackbits(stored.ravel())
    return bits


def _bytes(bits: int) -> int:
    """The bytes that so many bits take."""
    return -(-bits // 8)


def _escape(bits: int) -> int:
    """The symbol of a run of zeros alone."""
    return (1 << bits) - 1


def _steps(symbols: np.ndarray, bits: int) -> np.ndarray:
    """The places that each symbol goes on."""
    return symbols.astype(np.int64) + (symbols < _escape(bits))
