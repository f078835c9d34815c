"""Answers of an engine on its board: slow, since every question starts trtexec anew, so for a few images only."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgecr.core.errors import DeviceFailed
from edgecr.runners.agent.protocol import Connection
from edgecr.runners.runtimes.tensorrt import TensorRtOptions
from edgecr.runners.tensorrt import commands
from edgecr.runners.tensorrt.board import BoardTrtexec, TrtBoard
from edgecr.runners.tensorrt.build_file import BuildFile
from edgecr.runners.tensorrt.commands import Places
from edgecr.runners.tensorrt.model_input import ModelInput
from edgecr.runners.tensorrt.output import AnsweredTensor, answered

MOST = 64
"""Images in one question: their outputs come back as text."""


@dataclass(frozen=True)
class EngineAnswers:
    """An engine that lies in the agent's folder, as a function from inputs to named outputs."""

    agent: Connection
    trtexec: BoardTrtexec
    board: TrtBoard
    options: TensorRtOptions
    places: Places
    file: BuildFile
    input: ModelInput

    @property
    def fixed(self) -> int | None:
        """The number of images that the engine takes; None where it takes several."""
        return self.input.dims[0] if self.file.largest is None else None

    @property
    def most(self) -> int:
        """The number of images that one question may have."""
        return min(MOST, self.file.largest or MOST)

    def __call__(self, inputs: np.ndarray) -> Mapping[str, np.ndarray]:
        """The outputs for one batch, as the file takes it; floats as float32."""
        name, count = self.input.name, len(inputs)
        dims = self.file.dims(count)
        shapes = commands.shapes_of(name, dims) if dims else None
        flags = commands.answer_flags(self.board.version, self.options, self.places, shapes, name)
        self._put(np.ascontiguousarray(inputs, dtype=self.input.dtype))
        run = self.trtexec.run(f"answering {count} images", flags, [self.places.of("output.json")], 0.0)
        found = answered(run.files.get(self.places.of("output.json")))
        return {one.name: values_of(one) for one in found}

    def _put(self, inputs: np.ndarray) -> None:
        """Sends an input as the bytes that trtexec reads."""
        with tempfile.TemporaryDirectory(prefix="edgecr-input-") as folder:
            path = Path(folder) / "input.bin"
            path.write_bytes(inputs.tobytes())
            self.agent.put(path, self.places.of("input.bin"))


def values_of(tensor: AnsweredTensor) -> np.ndarray:
    """One output in its shape."""
    dims = [] if tensor.dimensions == "scalar" else [int(size) for size in tensor.dimensions.split("x")]
    values = np.asarray(tensor.values, np.float32)
    if values.size != math.prod(dims):
        raise DeviceFailed(f"trtexec wrote {values.size} values of the output, whose shape is {tensor.dimensions}.")
    return values.reshape(dims)
