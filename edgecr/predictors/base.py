"""One way to ask any form of a model for its outputs, so that what ships is what is judged."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from edgecr.tasks import Outputs


class Predictor(ABC):
    """A model in some runtime; robustness and parity only ever see this."""

    @abstractmethod
    def predict(self, images: np.ndarray) -> Outputs:
        """The named outputs for uint8 NHWC images, one row an image; any batch size, floats as float32."""
