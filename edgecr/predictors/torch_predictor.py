"""A PyTorch module as a predictor."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from edgecr.data.base import Preprocessing
from edgecr.predictors.base import Predictor
from edgecr.predictors.batches import check_images, in_portions
from edgecr.tasks import CLASSIFICATION, Outputs, Task, arrays


class TorchPredictor(Predictor):
    """Runs a frozen copy of a module in evaluation mode; the module itself keeps its state and mode."""

    def __init__(
        self,
        module: nn.Module,
        preprocessing: Preprocessing,
        *,
        task: Task = CLASSIFICATION,
        device: str = "cpu",
        portion: int = 256,
    ) -> None:
        self._module = copy.deepcopy(module).eval().to(device)
        self._preprocessing = preprocessing
        self._task = task
        self._device = device
        self._portion = portion

    def predict(self, images: np.ndarray) -> Outputs:
        """The outputs that the task names, for uint8 NHWC images; any batch size."""
        check_images(images, self._preprocessing.size)
        return in_portions(images, self._portion, self._run)

    def _run(self, images: np.ndarray) -> Outputs:
        inputs = torch.from_numpy(self._preprocessing.apply(images)).to(self._device)
        with torch.inference_mode():
            return arrays(self._task.outputs_of(self._module(inputs)))
