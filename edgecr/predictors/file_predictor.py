"""A file in some runtime as a predictor; the runtimes of this machine differ in how one batch is answered."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

import numpy as np

from edgecr.core.errors import UnsupportedModel
from edgecr.data.base import Preprocessing
from edgecr.predictors.base import Predictor
from edgecr.predictors.batches import check_images, in_portions
from edgecr.tasks import Outputs


class ImageFilePredictor(Predictor):
    """A file with one image input, wherever it runs; its outputs keep the names that the file gives them.

    ``batch`` is the number of images that the file takes, None for one that takes any.
    """

    def __init__(
        self, path: Path, preprocessing: Preprocessing, embedded: bool, batch: int | None, portion: int
    ) -> None:
        self._path = path
        self._preprocessing = preprocessing
        self._embedded = embedded
        self._fixed = batch is not None
        self._portion = portion if batch is None else batch

    def _inputs(self, images: np.ndarray) -> np.ndarray:
        """A portion of images as the file takes them."""
        count = len(images)
        if self._fixed and count < self._portion:  # the file takes whole batches only: fill up, then drop
            images = np.concatenate([images, np.repeat(images[-1:], self._portion - count, axis=0)])
        return np.ascontiguousarray(images if self._embedded else self._preprocessing.apply(images))

    def _rows(self, answers: Outputs, asked: int, count: int) -> Outputs:
        """The outputs with one row for each of ``asked`` inputs, for the first ``count`` of them."""
        rows = {name: _single(each[:count]) for name, each in answers.items() if each.ndim and len(each) == asked}
        if not rows:
            raise UnsupportedModel(f"{self._path} has no output with one row for each of its {asked} images.")
        return rows


class FilePredictor(ImageFilePredictor):
    """Runs a file in a runtime of this machine."""

    @abstractmethod
    def _answer(self, inputs: np.ndarray) -> Outputs:
        """All outputs for one batch as the file takes it; UnsupportedModel where the runtime fails."""

    def predict(self, images: np.ndarray) -> Outputs:
        """The file's outputs for uint8 NHWC images; any batch size."""
        check_images(images, self._preprocessing.size)
        return in_portions(images, self._portion, self._run)

    def _run(self, images: np.ndarray) -> Outputs:
        inputs = self._inputs(images)
        return self._rows(self._answer(inputs), len(inputs), len(images))


def _single(values: np.ndarray) -> np.ndarray:
    """Numbers of any float format as float32; whole numbers stay what they are."""
    return values.astype(np.float32, copy=False) if np.issubdtype(values.dtype, np.floating) else values
