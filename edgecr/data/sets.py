"""The two kinds of image sets: in memory as one array, and read from disk when asked for.

torch is only imported by whoever asks for tensors: judging exported files needs none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from typing_extensions import override

from edgecr.core.files import fingerprint
from edgecr.data.base import ImageSet
from edgecr.data.images import DECODING, decode_all

if TYPE_CHECKING:
    import torch


class MemorySet(ImageSet):
    """Images that lie in memory as one uint8 array (N, height, width, 3)."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self._images = np.ascontiguousarray(images)
        self.labels = np.asarray(labels, dtype=np.int64)

    def images(self, indices: Sequence[int] | np.ndarray) -> torch.Tensor:
        """The images at those indices as one uint8 NHWC tensor."""
        import torch

        return torch.from_numpy(self.numpy(indices))

    @override
    def numpy(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        return self._images[np.asarray(indices, dtype=np.int64)]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self._images.shape[1], self._images.shape[2]

    def at(self, indices: np.ndarray) -> MemorySet:
        """Some of the images."""
        return MemorySet(self._images[indices], self.labels[indices])

    def digest(self) -> str:
        """The SHA-256 of every pixel and label."""
        digest = hashlib.sha256(f"{tuple(self._images.shape)}".encode())
        digest.update(self._images.data)
        digest.update(self.labels.tobytes())
        return digest.hexdigest()


class StreamSet(ImageSet):
    """Images that are decoded from their files, by several threads, each time they are asked for."""

    streams: ClassVar[bool] = True

    def __init__(self, root: Path, files: Sequence[str], labels: np.ndarray, size: tuple[int, int]) -> None:
        self._root, self._files, self._size = root, tuple(files), size
        self.labels = np.asarray(labels, dtype=np.int64)

    def images(self, indices: Sequence[int] | np.ndarray) -> torch.Tensor:
        """The images at those indices as one uint8 NHWC tensor."""
        import torch

        return torch.from_numpy(self.numpy(indices))

    @override
    def numpy(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        return decode_all([self._root / self._files[index] for index in indices], self._size)

    @property
    def paths(self) -> list[Path]:
        """The files of the images."""
        return [self._root / file for file in self._files]

    def at(self, indices: np.ndarray) -> StreamSet:
        """Some of the images."""
        return StreamSet(self._root, [self._files[index] for index in indices], self.labels[indices], self._size)

    def digest(self) -> str:
        """The SHA-256 of names, file sizes and labels: reading every pixel would take too long.

        An image that is replaced by one of exactly as many bytes therefore goes unnoticed.
        """
        sizes = [(self._root / file).stat().st_size for file in self._files]
        return fingerprint([DECODING, self._size, list(zip(self._files, sizes, self.labels.tolist()))])


def dataset_fingerprint(classes: Iterable[str], parts: Iterable[MemorySet | StreamSet]) -> str:
    """Changes whenever a class name, an image, a label or a split changes."""
    return fingerprint([list(classes), [part.digest() for part in parts]])
