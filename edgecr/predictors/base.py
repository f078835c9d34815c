"""One way to ask any form of a model for its answers, so that what ships is what is judged."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np


class Predictor(ABC):
    """A model in some runtime; robustness and parity only ever see this."""

    @abstractmethod
    def predict(self, images: np.ndarray) -> np.ndarray:
        """uint8 NHWC images in, float32 logits (N, classes) out; any batch size."""
