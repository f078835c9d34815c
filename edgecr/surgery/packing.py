"""Weights in fewer bytes without loss: where they are not zero, and what they are there, each in its shortest code.

Places are a mask of bits or the gaps between non-zero weights, in symbols of 4 or 8 bits. The largest symbol stands for
a run of zeros of its own length with no weight behind it. What stands at the places are values, or signs with one
magnitude for each output channel. Such weights may also be trits: five of -1, 0 and 1 in a byte.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgecr.core.errors import FileProblem

MASK, VALUES, SIGNS, SCALES, TRITS = "mask", "values", "signs", "scales", "trits"
GAPS = {"gaps4": 4, "gaps8": 8}
"""Codes of gaps, and the bits of their symbols."""
MOST_BYTES = 2_000_000_000
"""Weights that an ONNX file could hold as they are; no packed ones may become more."""
LEAST_BYTES = 1024
"""Smaller weights stay as they are: they take less room than what would unpack them."""
TRITS_OF_BYTE = np.stack([np.arange(243) // 3**power % 3 for power in range(4, -1, -1)], 1).astype(np.int8) - 1
"""The five numbers that a byte of trits stands for."""
_MOST_FOR_A_BYTE = 256
"""Weights that one stored byte may stand for: a symbol of 8 bits is a run of at most 255 zeros."""
_SLOW_COSTS = 1.1
"""Forms that number many bits or symbols one by one must be smaller than others by that."""
_MISFIT = "the places of a packed weight do not fit its shape"

EMITS = {bits: np.append(np.ones((1 << bits) - 1, np.uint8), np.zeros(1, np.uint8)) for bits in GAPS.values()}
"""The weights, 1 or 0, that each symbol has behind its zeros."""
STEPS = {bits: np.arange(1 << bits, dtype=np.int64) + emits for bits, emits in EMITS.items()}
"""The places that each symbol goes on."""


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
    def skips(self) -> bool:
        """True if some symbols have no weight behind them: values then begin with the zero that stands for them."""
        return MASK in self.parts or bool(self.gaps and not EMITS[GAPS[self.gaps]][self.symbols()].all())

    @property
    def stored(self) -> int:
        """The bytes of all parts."""
        return sum(part.nbytes for part in self.parts.values())

    def weight(self) -> np.ndarray:
        """The weight, bit by bit as it was; FileProblem for parts that do not fit one another."""
        if self.size * 4 > MOST_BYTES or self.size > _MOST_FOR_A_BYTE * (self.stored + 1):
            raise FileProblem(f"a packed weight of {list(self.shape)} cannot come out of {self.stored:,} bytes")
        if SCALES in self.parts and len(self.parts[SCALES]) != self.shape[0]:
            raise FileProblem("a packed weight has another number of channels than of magnitudes for them")
        flat = np.zeros(self.size, np.float32)
        if TRITS in self.parts:
            flat[:] = self._trits()
        else:
            places = self._places()
            flat[places] = self._at(len(places))
        if SCALES in self.parts:
            flat = (flat.reshape(self.shape[0], -1) * self.parts[SCALES][:, None]).ravel()
        return flat.reshape(self.shape)

    def symbols(self) -> np.ndarray:
        """The symbols of the gaps; half a byte that is left over would lead behind the last weight."""
        stored, bits = self.parts[self.gaps], GAPS[self.gaps]
        if stored.size > _bytes(self.size * bits, 8):  # each symbol goes on by one place or more
            raise FileProblem(_MISFIT)
        symbols = stored if bits == 8 else np.stack([stored >> 4, stored & 15], 1).ravel()
        ends = np.cumsum(STEPS[bits][symbols], dtype=np.int64)
        over = int(bits == 4 and len(ends) > 0 and ends[-1] > self.size)
        return symbols[: len(symbols) - over]

    def _places(self) -> np.ndarray:
        """The places of weights that are not zero."""
        if self.gaps:
            symbols, bits = self.symbols(), GAPS[self.gaps]
            ends = np.cumsum(STEPS[bits][symbols], dtype=np.int64)
            places: np.ndarray = ends[EMITS[bits][symbols] > 0] - 1
            whole = len(ends) > 0 and ends[-1] <= self.size
        elif MASK in self.parts:
            whole = self.parts[MASK].size == _bytes(self.size, 8)
            places = np.flatnonzero(_bits(self.parts[MASK])) if whole else np.empty(0, np.int64)
        else:
            return np.arange(self.size)
        if not whole or not len(places) or places[-1] >= self.size:
            raise FileProblem(_MISFIT)
        return places

    def _at(self, count: int) -> np.ndarray:
        """The numbers at so many places."""
        if VALUES in self.parts:
            zero = int(self.skips)
            numbers = self.parts[VALUES][zero:]
            fits = len(numbers) == count and not any(self.parts[VALUES][:zero].tobytes())
        else:
            fits = self.parts[SIGNS].size == _bytes(count, 8)
            numbers = 1 - 2 * _bits(self.parts[SIGNS] if fits else self.parts[SIGNS][:0]).astype(np.float32)
        if not fits:
            raise FileProblem(f"a packed weight has {count:,} places, and another number of weights for them")
        return numbers[:count]

    def _trits(self) -> np.ndarray:
        stored = self.parts[TRITS]
        if stored.size * 5 != math.prod(filled(self.shape)) or stored.max(initial=0) >= len(TRITS_OF_BYTE):
            raise FileProblem("the trits of a packed weight do not fit its shape")
        trits: np.ndarray = TRITS_OF_BYTE[stored].ravel()[: self.size]
        return trits


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
            form = PackedWeight(weight.shape, spot | number)
            if VALUES in number and form.skips:
                form = replace(form, parts=spot | {VALUES: np.append(np.zeros(1, np.float32), number[VALUES])})
            if spot or SIGNS in number:
                yield form
    if scales is not None and not everywhere:
        yield PackedWeight(weight.shape, {TRITS: _trits(weight), SCALES: scales})


def by_cost(weight: np.ndarray) -> list[PackedWeight]:
    """The forms of a weight, the one to prefer first: the smallest, unless it takes long to unpack and saves little."""
    return sorted(forms_of(weight), key=_cost)


def filled(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with so many further output channels that whole bytes hold all trits."""
    return (shape[0] + (-shape[0] % 5 if math.prod(shape[1:]) % 5 else 0), *shape[1:])


def _cost(form: PackedWeight) -> float:
    return form.stored * (_SLOW_COSTS if {MASK, "gaps4"} & form.parts.keys() else 1)


def _gap_codes(places: np.ndarray, size: int) -> Iterator[dict[str, np.ndarray]]:
    zeros = np.diff(places, prepend=-1) - 1
    for name, bits in GAPS.items():
        escape = (1 << bits) - 1
        ends = np.cumsum(zeros // escape + 1)
        tail = (size - 1 - int(places[-1])) // escape
        symbols = np.full(int(ends[-1]) + tail, escape, np.uint8)
        symbols[ends - 1] = zeros % escape
        if bits == 4:
            even = np.append(symbols, np.full(len(symbols) % 2, escape, np.uint8))
            symbols = np.left_shift(even[0::2], 4) | even[1::2]
        yield {name: symbols}


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
    return np.packbits(bits)


def _signs(values: np.ndarray) -> np.ndarray:
    return np.packbits(values < 0)


def _trits(weight: np.ndarray) -> np.ndarray:
    numbers = np.ones(math.prod(filled(weight.shape)), np.int64)
    numbers[: weight.size] += np.sign(weight).astype(np.int64).ravel()
    whole: np.ndarray = numbers.reshape(-1, 5) @ (3 ** np.arange(4, -1, -1))
    return whole.astype(np.uint8)


def _bits(stored: np.ndarray) -> np.ndarray:
    bits: np.ndarray = np.unpackbits(stored)
    return bits


def _bytes(numbers: int, each: int) -> int:
    """The bytes for so many numbers, of which each byte holds some."""
    return -(-numbers // each)
