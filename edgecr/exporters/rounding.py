"""The parts of rounding to 8-bit integers that no quantiser does itself: images, the range of weights, exclusions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

import numpy as np

from edgecr.core.errors import RequestError, UnsupportedModel, suggestion
from edgecr.core.processor import vnni
from edgecr.data.views import ProofData
from edgecr.exporters.graph_target import GraphTarget, Rounding


def calibration_inputs(target: GraphTarget, count: int, proof: ProofData) -> np.ndarray:
    """Training images as the model takes them."""
    images = proof.calibration(count)
    if len(images) == 0:
        raise RequestError(
            f"Export target {target.name!r} has 8-bit integers, whose ranges come from training images, "
            "but there are none. Give images, or choose a target in float32."
        )
    return file_inputs(target, proof, images)


def file_inputs(target: GraphTarget, proof: ProofData, images: np.ndarray) -> np.ndarray:
    """Images, uint8 NHWC, as the file takes them."""
    return images if target.embed_preprocessing else np.ascontiguousarray(proof.preprocessing.apply(images))


def narrow_weights(options: Rounding) -> tuple[bool, str]:
    """True for weights of 7 bits, and the reason."""
    if options.reduce_range != "auto":
        return options.reduce_range, "asked for"
    able = vnni()
    if able is None:
        return True, "this machine does not say whether its processor has VNNI"
    return not able, f"the processor of this machine {'has' if able else 'lacks'} VNNI"


def excluded(layers: Iterable[tuple[str, str]], patterns: Sequence[str]) -> list[str]:
    """The nodes of the layers that stay in float32, of pairs of node and layer; RequestError for an idle pattern."""
    pairs = list(layers)
    if not pairs:
        raise UnsupportedModel("The model has no convolution or linear layer that could be rounded to 8-bit integers.")
    for pattern in patterns:
        if not any(fnmatchcase(layer, pattern) for _, layer in pairs):
            near = suggestion(pattern, {layer for _, layer in pairs})
            raise RequestError(f"`exclude: [{pattern}]` fits no layer of the model. {near}")
    return [node for node, layer in pairs if any(fnmatchcase(layer, pattern) for pattern in patterns)]
