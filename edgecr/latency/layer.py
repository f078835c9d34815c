"""A layer as its latency depends on it: kind, channels, size, kernel and the rest, and their canonical text."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from edgecr.core.errors import RequestError
from edgecr.latency.interpolation import Pair

Dimension = Literal["cin", "cout"]

_KEY = re.compile(
    r"(conv|linear) b(\d+) (\d+)x(\d+)x(\d+)>(\d+) k(\d+)x(\d+) s(\d+)x(\d+) p(\d+)x(\d+) d(\d+)x(\d+) g(\d+)"
)


@dataclass(frozen=True)
class LayerConfig:
    """All that a layer's latency depends on; two layers with the same key take the same time."""

    kind: Literal["conv", "linear"]
    cin: int
    cout: int
    batch: int = 1
    height: int = 1
    """Height of the input."""
    width: int = 1
    """Width of the input."""
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    @cached_property
    def key(self) -> str:
        """The canonical text, for example ``conv b1 64x56x56>128 k3x3 s2x2 p1x1 d1x1 g1``."""
        pairs = {"k": self.kernel, "s": self.stride, "p": self.padding, "d": self.dilation}
        form = " ".join(f"{letter}{one}x{other}" for letter, (one, other) in pairs.items())
        size = f"{self.cin}x{self.height}x{self.width}>{self.cout}"
        return f"{self.kind} b{self.batch} {size} {form} g{self.groups}"

    @classmethod
    def of(cls, key: str) -> LayerConfig:
        """The configuration that a key describes."""
        found = _KEY.fullmatch(key)
        if found is None:
            raise RequestError(f"{key!r} is not the key of a layer, such as {cls('conv', 64, 64).key!r}.")
        kind, *texts = found.groups()
        batch, cin, height, width, cout, *pairs, groups = map(int, texts)
        if min(batch, cin, height, width, cout, groups, *pairs[:4], *pairs[6:]) < 1:
            raise RequestError(f"{key!r} is not the key of a layer: all of its numbers but the padding are 1 or more.")
        kernel, stride, padding, dilation = (tuple(pairs[at : at + 2]) for at in (0, 2, 4, 6))
        return cls(kind, cin, cout, batch, height, width, kernel, stride, padding, dilation, groups)  # type: ignore[arg-type]

    @property
    def tied(self) -> bool:
        """True if groups are so narrow (one channel in depthwise layers) that only whole groups can go."""
        return self.groups > 1 and self.groups >= self.cin // self.groups

    @property
    def weights(self) -> int:
        """Elements of the weight."""
        return self.cout * (self.cin // self.groups) * self.kernel[0] * self.kernel[1]

    @property
    def values(self) -> int:
        """Elements of the images that one call of a convolution reads and writes; 0 for a linear layer."""
        if self.kind == "linear":  # its rows are never brought into another form
            return 0
        inside, outside = self.height * self.width, self.out_size[0] * self.out_size[1]
        return self.batch * (self.cin * inside + self.cout * outside)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one call."""
        return self.batch * self.out_size[0] * self.out_size[1] * self.weights

    @property
    def out_size(self) -> Pair:
        """Height and width of the output."""
        height, width = (
            (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
            for size, pad, dilation, kernel, stride in zip(
                (self.height, self.width), self.padding, self.dilation, self.kernel, self.stride
            )
        )
        return height, width

    def resized(self, dimension: Dimension, count: int) -> LayerConfig:
        """The same layer with another number of channels; in a tied layer inputs, outputs and groups change."""
        if not self.tied:
            return replace(self, cin=count) if dimension == "cin" else replace(self, cout=count)
        before = self.cin if dimension == "cin" else self.cout
        cin, cout, groups = (old * count // before for old in (self.cin, self.cout, self.groups))
        return replace(self, cin=cin, cout=cout, groups=groups)
