"""Coverage of an 8-bit file: the share of its work that OpenVINO really does in integers on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgecr.core.processor import vnni
from edgecr.exporters.integers import IntegerWork
from edgecr.exporters.openvino.layers import GraphLayer, for_one_image, integers, layers_of
from edgecr.predictors.openvino_file import read_openvino
from edgecr.predictors.openvino_predictor import compiled

_ROUNDING = "FakeQuantize"
_SIGNS = 2
"""The levels of a rounding that leaves signs."""
_INTEGERS = ("i8", "u8")
_WORKERS = ("Convolution", "Deconvolution", "FullyConnected", "MatMul")
"""The runtime's own names of operators that multiply by weights."""
_NARROW = 64
"""The largest weight of 7 bits."""


def integer_work(path: Path) -> IntegerWork | None:
    """The integer part of a file's work, from the graph that the runtime makes of it; None for floats and bits."""
    model = for_one_image(read_openvino(path))
    roundings = {node.get_friendly_name() for node in model.get_ops() if _rounds(node)}
    if not roundings:
        return None
    layers = layers_of(model)
    nodes = list(_as_run(model, path))
    whole = [names for kind, precision, names in nodes if kind in _WORKERS and precision in _INTEGERS]
    macs, elsewhere = 0, dict[str, int]()
    for layer in layers:
        if any(_is_in(layer.operator.get_friendly_name(), names) for names in whole):
            macs += layer.count.macs
        else:
            elsewhere[layer.count.name] = elsewhere.get(layer.count.name, 0) + layer.count.macs
    return IntegerWork(
        macs=macs,
        all_macs=sum(layer.count.macs for layer in layers),
        float_layers=elsewhere,
        pairs=sum(precision not in _INTEGERS and not roundings.isdisjoint(names) for _, precision, names in nodes),
        kernels="x86",
        saturates=vnni() is False and any(_has_8_bits(layer) for layer in layers),
    )


def _rounds(node: Any) -> bool:
    """True for rounding to integers, which are more than the two levels of a sign."""
    return node.get_type_name() == _ROUNDING and bool(node.get_attributes()["levels"] > _SIGNS)


def _as_run(model: Any, path: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Yields kind, precision and origins of each operator that the runtime makes."""
    for node in compiled(model, path, threads=1).get_runtime_model().get_ops():
        facts = node.get_rt_info()
        kind, precision, origins = (
            facts[key].astype(str) for key in ("layerType", "runtimePrecision", "originalLayersNames")
        )
        yield kind, precision, origins.split(",")


def _is_in(operator: str, origins: list[str]) -> bool:
    """True if an operator is one of those that the runtime made another one of; it adds endings to names."""
    return any(origin == operator or origin.startswith(f"{operator}/") for origin in origins)


def _has_8_bits(layer: GraphLayer) -> bool:
    """True if some weight is too large for 7 bits; in depthwise layers, which add no pairs of products, none is."""
    if layer.count.groups > 1 and layer.count.weight_shape[1] == 1:
        return False
    stored = [integers(layer.operator.input(place)) for place in (0, 1)]
    return any(each is not None and bool((np.abs(each.astype(int)) > _NARROW).any()) for each in stored)
