"""The standard operators that unpack a weight inside the graph. ONNX Runtime folds them once, when it loads the file.

Every shape is known without running anything, since the runtime folds nothing else. So weights are not picked out of
the symbols: each symbol is given a number, its weight or the zero that a run of zeros ends with. A table tells what
each byte stands for, which is faster than to shift bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgecr.surgery.packing import (
    EMITS,
    GAPS,
    MASK,
    SCALES,
    SIGNS,
    STEPS,
    TRITS,
    TRITS_OF_BYTE,
    VALUES,
    PackedWeight,
    filled,
)

PART = "/packed/"
"""Stands between the name of a weight and that of a part, or of a value on the way."""
SHAPE, FILLED, CHANNELS = "shape", "filled", "channels"
"""Parts that tell the shape of a weight: alone, or with channels that fill bytes and how many are real."""
COMMON = "packed/"
"""Begins the names of tables and constants that all packed weights share."""
_ALL_BYTES = np.arange(256, dtype=np.uint8)[:, None]
_BITS = np.unpackbits(_ALL_BYTES, axis=1)
_HALVES = np.concatenate([_ALL_BYTES >> 4, _ALL_BYTES & 15], 1)
_TABLES: dict[str, tuple[np.ndarray, int]] = {
    "bits": (_BITS, TensorProto.INT32),
    "signs": (1 - 2 * _BITS.astype(np.int8), TensorProto.FLOAT),
    "trits": (TRITS_OF_BYTE, TensorProto.FLOAT),
    "steps4": (STEPS[4].astype(np.uint8)[_HALVES], TensorProto.INT32),
    "emits4": (EMITS[4][_HALVES], TensorProto.INT32),
    "steps8": (STEPS[8].astype(np.uint8)[_ALL_BYTES], TensorProto.INT32),
    "emits8": (EMITS[8][_ALL_BYTES], TensorProto.INT32),
}
"""Meanings of each byte, stored in bytes, and the type that it is needed in; a step of 8 bits is at most 255."""
_CONSTANTS: dict[str, np.ndarray] = {
    "one": np.array(1, np.int32),
    "axis": np.array(0, np.int32),
    "flat": np.array([-1], np.int64),
    "first": np.array([0], np.int64),
    "nothing": np.array([0], np.float32),
}
_ZERO = numpy_helper.from_array(np.zeros(1, np.float32))


def shared_nodes(nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """The nodes that make the tables which some nodes read."""
    read = {name for node in nodes for name in node.input}
    return [
        helper.make_node("Cast", [f"{COMMON}{name}/bytes"], [COMMON + name], COMMON + name, to=kind)
        for name, (_, kind) in _TABLES.items()
        if COMMON + name in read
    ]


def shared_tensors(nodes: Sequence[onnx.NodeProto]) -> list[TensorProto]:
    """The shared constants that some nodes read, and the bytes of tables."""
    read = {name for node in nodes for name in node.input}
    known = _CONSTANTS | {f"{name}/bytes": table for name, (table, _) in _TABLES.items()}
    return [numpy_helper.from_array(value, COMMON + name) for name, value in known.items() if COMMON + name in read]


class UnpackingNodes:
    """The nodes that make one weight of its parts, and the tensors that hold the parts."""

    def __init__(self, name: str, packed: PackedWeight) -> None:
        self.name = name
        self.packed = packed
        self.nodes: list[onnx.NodeProto] = []
        self._indices: dict[str, str] = {}
        self.tensors: list[TensorProto] = [self._stored(part, value) for part, value in packed.parts.items()]
        if SCALES in packed.parts:
            ones = self._trits() if TRITS in packed.parts else self._shaped(self._flat())
            column = self._count("column", [packed.shape[0], *[1] * (len(packed.shape) - 1)])
            self._add("Mul", ones, self._add("Reshape", self._part(SCALES), column), output=name)
        else:
            self._shaped(self._flat(), output=name)

    def _trits(self) -> str:
        """Signs and zeros; channels that only fill the last bytes are cut off."""
        shape = self.packed.shape
        if filled(shape) == shape:
            return self._shaped(self._looked_up("trits", TRITS))
        whole = self._add("Reshape", self._looked_up("trits", TRITS), self._count(FILLED, filled(shape)))
        return self._add("Slice", whole, f"{COMMON}first", self._count(CHANNELS, shape[:1]))

    def _flat(self) -> str:
        """All weights in a row; where the channels have magnitudes, as 1, -1 and 0."""
        parts = self.packed.parts
        if MASK in parts:
            counted = self._add("Reshape", self._looked_up("bits", MASK), f"{COMMON}flat")
            return self._whole(self._numbers(counted), 8 * parts[MASK].size)
        if not self.packed.gaps:
            return self._whole(self._looked_up("signs", SIGNS), 8 * parts[SIGNS].size)
        bits, count = GAPS[self.packed.gaps], len(self.packed.symbols())
        steps = self._of_symbols(f"steps{bits}", count)
        if self.packed.skips:
            numbers = self._numbers(self._of_symbols(f"emits{bits}", count))
        elif SIGNS in parts:
            signs = self._add("Reshape", self._looked_up("signs", SIGNS), f"{COMMON}flat")
            numbers = self._first(signs, 8 * parts[SIGNS].size, count)
        else:
            numbers = self._part(VALUES)
        places = self._add("Sub", self._add("CumSum", steps, f"{COMMON}axis"), f"{COMMON}one")
        zeros = self._add("ConstantOfShape", self._count("places", [self.packed.size]), value=_ZERO)
        return self._add("ScatterElements", zeros, places, numbers, axis=0)

    def _whole(self, numbers: str, held: int) -> str:
        """All weights, of so many numbers with those that only fill the last byte; in any shape if none does."""
        if held == self.packed.size:
            return numbers
        return self._first(self._add("Reshape", numbers, f"{COMMON}flat"), held, self.packed.size)

    def _first(self, flat: str, held: int, count: int) -> str:
        """The first ones of so many numbers in a row."""
        if held == count:
            return flat
        return self._add("Slice", flat, f"{COMMON}first", self._count(f"{len(self.nodes)} ends", [count]))

    def _shaped(self, numbers: str, output: str = "") -> str:
        return self._add("Reshape", numbers, self._count(SHAPE, self.packed.shape), output=output)

    def _of_symbols(self, table: str, count: int) -> str:
        """Looks each symbol up in a table."""
        found = self._add("Reshape", self._looked_up(table, self.packed.gaps), f"{COMMON}flat")
        return self._first(found, self.packed.parts[self.packed.gaps].size * 8 // GAPS[self.packed.gaps], count)

    def _numbers(self, emits: str) -> str:
        """The number of each symbol: the next one of those that are stored where it emits one, else the first: zero."""
        place = self._add("Mul", self._add("CumSum", emits, f"{COMMON}axis"), emits)
        numbers = self._part(VALUES)
        if SIGNS in self.packed.parts:
            signs = self._add("Reshape", self._looked_up("signs", SIGNS), f"{COMMON}flat")
            numbers = self._add("Concat", f"{COMMON}nothing", signs, axis=0)
        return self._add("Gather", numbers, place)

    def _looked_up(self, table: str, part: str) -> str:
        """Looks each byte of a part up in a table."""
        if part not in self._indices:
            self._indices[part] = self._add("Cast", self._part(part), to=TensorProto.INT32)
        return self._add("Gather", COMMON + table, self._indices[part])

    def _add(self, operator: str, *inputs: str, output: str = "", **attributes: object) -> str:
        made = output or self._part(str(len(self.nodes)))
        self.nodes.append(helper.make_node(operator, inputs, [made], made, **attributes))
        return made

    def _part(self, part: str) -> str:
        return f"{self.name}{PART}{part}"

    def _stored(self, part: str, value: np.ndarray) -> TensorProto:
        return numpy_helper.from_array(value, self._part(part))

    def _count(self, part: str, values: Sequence[int]) -> str:
        self.tensors.append(self._stored(part, np.array(values, np.int64)))
        return self._part(part)
