"""Counting any OpenVINO file: the layers that hold weights, their parameters and their multiply-accumulates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgecr.core.files import read_errors
from edgecr.exporters.openvino.layers import BITS, for_one_image, layers_of
from edgecr.exporters.receipt import Recount, recounted
from edgecr.exporters.zeros import zero_channels_of
from edgecr.predictors.openvino_file import read_openvino
from edgecr.surgery.counts import Count

_FLOATS = ("f16", "bf16", "f32", "f64")
_SCALES = ("Multiply", "Subtract")


def contents(path: Path, figures: Sequence[str] = ()) -> Recount:
    """Counts a file, with the promised figures of these names; its size is that of the graph and of its weights."""
    model = for_one_image(read_openvino(path))
    layers = layers_of(model)
    zeros = {layer.count.name: zero_channels_of(layer.count, layer.weights) for layer in layers}
    count = Count(
        params=sum(math.prod(node.get_output_shape(0)) for node in model.get_ops() if _is_parameter(node)),
        macs=sum(layer.count.macs for layer in layers),
        size_bytes=_size(path) + _size(path.with_suffix(".bin")),
        layers=tuple(layer.count for layer in layers),
    )
    found = recounted(figures, (layer.weights for layer in layers))
    return Recount(count, {name: each for name, each in zeros.items() if each}, found)


def _size(file: Path) -> int:
    with read_errors(file):
        return file.stat().st_size


def _is_parameter(node: Any) -> bool:
    """True for numbers of the network: floats, bits and integers that stand for floats, but no scales or limits."""
    if node.get_type_name() != "Constant":
        return False
    readers = [(reader.get_node(), reader.get_index()) for reader in node.output(0).get_target_inputs()]
    if (kind := node.get_element_type().get_type_name()) == BITS:
        return True
    if kind not in _FLOATS:
        return any(reader.get_type_name() == "Convert" and _is_float(reader) for reader, _ in readers)
    return not all(_rounds(reader, place) for reader, place in readers)


def _rounds(reader: Any, place: int) -> bool:
    """True if an input is a limit or a scale of rounding."""
    if reader.get_type_name() == "FakeQuantize":
        return place > 0
    if reader.get_type_name() not in _SCALES:
        return False
    other = reader.input(1 - place).get_source_output().get_node()
    return other.get_type_name() == "Convert" and _is_rounded(other.input(0).get_source_output().get_node())


def _is_rounded(node: Any) -> bool:
    return node.get_type_name() == "Constant" and node.get_element_type().get_type_name() not in _FLOATS


def _is_float(node: Any) -> bool:
    return node.get_output_element_type(0).get_type_name() in _FLOATS
