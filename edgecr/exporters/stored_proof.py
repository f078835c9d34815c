"""The stored proof of an artifact: some parity images and PyTorch's outputs for them, to try it with anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from edgecr.core.errors import FileProblem
from edgecr.core.files import opened, write_bytes
from edgecr.predictors.base import Predictor
from edgecr.tasks import Outputs

PROOF = "proof.safetensors"
"""The file of the proof, in the folder of its artifact."""
MOST_IMAGES = 16
MOST_BYTES = 4 << 20
"""Images and outputs of a proof take at most so much, unless two images take more."""
_LEAST_IMAGES = 2
_IMAGES = "images"
_OUTPUT = "output."


@dataclass(frozen=True)
class StoredProof(Predictor):
    """Images, and the outputs of the model for them; as a predictor it knows the answers to these images only."""

    images: np.ndarray
    """uint8 NHWC."""
    outputs: Mapping[str, np.ndarray]

    def predict(self, images: np.ndarray) -> Outputs:
        """The outputs for all of its images."""
        if images.shape != self.images.shape or not np.array_equal(images, self.images):
            raise ValueError("a stored proof answers for its own images only")
        return self.outputs

    def part(self) -> StoredProof:
        """As many of the images as a file may hold, spread over all of them, with their outputs."""
        each = sum(values[:1].nbytes for values in (self.images, *self.outputs.values()))
        count = min(len(self.images), max(_LEAST_IMAGES, min(MOST_IMAGES, MOST_BYTES // max(1, each))))
        chosen = np.linspace(0, len(self.images) - 1, count).round().astype(np.int64)
        return StoredProof(self.images[chosen], {name: values[chosen] for name, values in self.outputs.items()})

    def save(self, folder: Path) -> None:
        """Writes the file of the proof; equal proofs give equal bytes."""
        arrays = {_IMAGES: self.images} | {_OUTPUT + name: values for name, values in self.outputs.items()}
        whole = {name: np.ascontiguousarray(values) for name, values in sorted(arrays.items())}
        write_bytes(folder / PROOF, safetensors.numpy.save(whole))

    @classmethod
    def load(cls, file: Path) -> StoredProof:
        """Reads a stored proof; FileProblem for a file that is none."""
        with opened(file) as content:
            stored = content.read()
        try:
            arrays = safetensors.numpy.load(stored)
        except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
            raise FileProblem(f"{file} is no whole safetensors file: {error}.") from error
        images = arrays.pop(_IMAGES, np.empty(0))
        outputs = {name.removeprefix(_OUTPUT): values for name, values in arrays.items() if name.startswith(_OUTPUT)}
        fits = images.ndim == 4 and images.dtype == np.uint8 and len(outputs) == len(arrays) > 0 and len(images) > 0
        if not fits or any(values.ndim == 0 or len(values) != len(images) for values in outputs.values()):
            raise FileProblem(f"{file} does not hold images with one row of each output for each of them.")
        return cls(images, outputs)
