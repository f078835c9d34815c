"""Engines as a measurement records them: where they are from, and what their layers cost."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from edgecr.core.options import Options

NonNegative = Annotated[float, Field(ge=0)]
AGREEMENT = 0.995
"""Two builds of one file may differ in a few answers of a thousand, so that equality cannot be asked for."""
REFORMATS = ("reformat", "reorder", "copy")
"""Parts of the kinds of layers that only move values into another order or number format."""


class LayerTime(Options):
    """The time of one layer of an engine in one inference."""

    name: str
    ms: NonNegative
    kind: str = ""
    """TensorRT's word for it; empty where the engine does not tell."""
    precision: str = ""
    """The number format that it reads, such as int8; empty where the engine does not tell."""

    @property
    def reformats(self) -> bool:
        """True for a layer that computes nothing."""
        words = f"{self.kind} {self.name}".lower()
        return any(word in words for word in REFORMATS) and not self.computes

    @property
    def computes(self) -> bool:
        """True for a layer whose kind is that of a computation, whatever its name."""
        return any(word in self.kind.lower() for word in ("conv", "gemm", "matrix", "pool", "pointwise"))


class EngineParity(Options):
    """The answers of an engine on its board beside those that its file should give."""

    images: int
    agreement: Annotated[float, Field(ge=0, le=1)]
    """Share of the images that are answered alike."""
    cosine: float
    """The cosine between both outputs that 19 images in 20 reach."""


class Engine(Options):
    """One engine: built on the board by its trtexec, or taken from what it had built before."""

    arms: tuple[int, ...]
    """The arms that were measured with it."""
    tensorrt: str
    gpu: str
    capability: str
    """The compute capability of the processor, such as 8.7."""
    flags: tuple[str, ...]
    """trtexec's flags; ``@`` stands for the agent's folder."""
    seconds: NonNegative
    """The duration of the build, with the start of trtexec."""
    cached: bool
    """True where an earlier session had built it."""
    size_bytes: Annotated[int, Field(ge=0)]
    sha256: str
    log_sha256: str
    """The hash of the whole log of the build."""
    log: str
    """The end of the log."""
    device_mib: NonNegative | None = None
    """Memory of the processor that an inference takes beside the engine, as far as trtexec tells."""
    wall_ms: NonNegative | None = None
    """Mean time from inference to inference on the host, of all turns of the first arm."""
    parity: EngineParity | None = None
    """Its answers to the images that the exported file carries; None where it carries none."""
    layers: tuple[LayerTime, ...] = ()
    """Its layers with the batch of the first arm, in their order; empty where they were not timed."""

    @property
    def layers_ms(self) -> float:
        """The time of all layers."""
        return sum(layer.ms for layer in self.layers)

    @property
    def reformat_share(self) -> float | None:
        """Share of the layers' time that only reorders values; None without times."""
        return self._share(sum(layer.ms for layer in self.layers if layer.reformats))

    def precision_shares(self) -> dict[str, float]:
        """Share of the layers' time by the number format that they read, largest first."""
        names = dict.fromkeys(layer.precision or "not told" for layer in self.layers)
        times = {
            name: sum(layer.ms for layer in self.layers if (layer.precision or "not told") == name) for name in names
        }
        shares = {name: share for name, ms in times.items() if (share := self._share(ms)) is not None}
        return dict(sorted(shares.items(), key=lambda each: -each[1]))

    def _share(self, ms: float) -> float | None:
        return ms / self.layers_ms if self.layers_ms else None
