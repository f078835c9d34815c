"""The standard operators that unpack a weight inside the graph. ONNX Runtime folds them once, when it loads the file.

Every shape is known without running anything, since the runtime folds nothing else. So weights are not picked out of
the symbols: each symbol is given a number, its weight or the zero that a run of zeros ends with.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgecr.exporters.onnx.packing import GAPS, MASK, SCALES, SIGNS, VALUES, PackedWeight

PART = "/packed/"
"""Stands between the name of a weight and that of a part, or of a value on the way."""
SHAPE = "shape"
COMMON = "packed/"
"""Begins the names of constants that all packed weights share."""
_CONSTANTS: dict[str, np.ndarray] = {
    "one": np.array(1, np.int32),
    "axis": np.array(0, np.int32),
    "flat": np.array([-1], np.int64),
    "first": np.array([0], np.int64),
    "bits": np.arange(7, -1, -1, dtype=np.uint8),
    "bit": np.array(1, np.uint8),
    "halves": np.array([4, 0], np.uint8),
    "half": np.array(15, np.uint8),
    "escape4": np.array(15, np.int32),
    "escape8": np.array(255, np.int32),
    "nothing": np.array(0, np.float32),
    "plus": np.array(1, np.float32),
    "minus": np.array(-1, np.float32),
}
_ZERO = numpy_helper.from_array(np.zeros(1, np.float32))


def constants(nodes: Sequence[onnx.NodeProto]) -> list[TensorProto]:
    """The shared constants that some nodes read."""
    read = {name for node in nodes for name in node.input}
    return [
        numpy_helper.from_array(value, COMMON + name) for name, value in _CONSTANTS.items() if COMMON + name in read
    ]


class UnpackingNodes:
    """The nodes that make one weight of its parts, and the tensors that hold the parts."""

    def __init__(self, name: str, packed: PackedWeight) -> None:
        self.name = name
        self.packed = packed
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[TensorProto] = [self._stored(part, value) for part, value in packed.parts.items()]
        flat = self._flat()
        if SCALES in packed.parts:
            rows = self._add("Reshape", flat, self._count("rows", [packed.shape[0], -1]))
            scales = self._add("Reshape", self._part(SCALES), self._count("column", [packed.shape[0], 1]))
            flat = self._add("Mul", rows, scales)
        self._add("Reshape", flat, self._count(SHAPE, packed.shape), output=name)

    def _flat(self) -> str:
        """All weights in a row; those with a magnitude of their own as 1, -1 or 0."""
        if self.packed.gaps:
            symbols = self._symbols(self.packed.gaps)
            emits = self._add("Less", symbols, f"{COMMON}escape{GAPS[self.packed.gaps]}")
            counted = self._add("Cast", emits, to=TensorProto.INT32)
            ends = self._add("CumSum", self._add("Add", symbols, counted), f"{COMMON}axis")
            places = self._add("Sub", ends, f"{COMMON}one")
            zeros = self._add("ConstantOfShape", self._count("span", [self.packed.span]), value=_ZERO)
            spread = self._add("ScatterElements", zeros, places, self._numbers(emits, counted), axis=0)
        elif MASK in self.packed.parts:
            bits = self._bits(MASK)
            emits = self._add("Cast", bits, to=TensorProto.BOOL)
            spread = self._numbers(emits, self._add("Cast", bits, to=TensorProto.INT32))
        else:
            spread = self._dense()
        return self._add("Slice", spread, f"{COMMON}first", self._count("size", [self.packed.size]))

    def _symbols(self, code: str) -> str:
        symbols = self._part(code)
        if GAPS[code] == 4:
            both = self._add("BitShift", symbols, f"{COMMON}halves", direction="RIGHT")
            symbols = self._add("BitwiseAnd", both, f"{COMMON}half")
        return self._add("Cast", self._add("Reshape", symbols, f"{COMMON}flat"), to=TensorProto.INT32)

    def _bits(self, part: str) -> str:
        spread = self._add("BitShift", self._part(part), f"{COMMON}bits", direction="RIGHT")
        return self._add("Reshape", self._add("BitwiseAnd", spread, f"{COMMON}bit"), f"{COMMON}flat")

    def _numbers(self, emits: str, counted: str) -> str:
        """The number of each symbol: the next one of those that are stored where it emits one, else zero."""
        place = self._add("Sub", self._add("CumSum", counted, f"{COMMON}axis"), f"{COMMON}one")
        return self._add("Where", emits, self._add("Gather", self._dense(), place), f"{COMMON}nothing")

    def _dense(self) -> str:
        """The stored numbers: values, or signs as 1 and -1."""
        if VALUES in self.packed.parts:
            return self._part(VALUES)
        negative = self._add("Cast", self._bits(SIGNS), to=TensorProto.BOOL)
        return self._add("Where", negative, f"{COMMON}minus", f"{COMMON}plus")

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
