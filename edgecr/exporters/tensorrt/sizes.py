"""Sizes of weights that do not fit their inputs, as far as ONNX's own inference of shapes does not compare them."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from edgecr.exporters.onnx.names import place_of
from edgecr.exporters.tensorrt.scopes import Scope

_PER_CHANNEL = {"BatchNormalization": (1, 2, 3, 4), "InstanceNormalization": (1, 2)}
"""Inputs with one number for each channel."""


def size_problems(scope: Scope) -> Iterator[str]:
    """Layers of one graph whose weights are for another number of channels than they get."""
    for node in scope.graph.node:
        for name, axis, wanted in _wanted(node, scope):
            given = _size(scope, name, axis)
            if given is not None and wanted is not None and given != wanted:
                yield f"{place_of(node)} cannot run: {given} channels in {name!r} where {wanted} are needed"


def _wanted(node: onnx.NodeProto, scope: Scope) -> Iterator[tuple[str, int, int | None]]:
    """The inputs whose size along an axis is given by other inputs: name, axis and size."""
    channels = _size(scope, node.input[0], 1) if node.input else None
    if node.op_type in ("Conv", "ConvTranspose"):
        groups = next((int(item.i) for item in node.attribute if item.name == "group"), 1)
        turned = node.op_type == "ConvTranspose"
        inner = _size(scope, node.input[1], 0 if turned else 1)
        yield node.input[0], 1, inner if inner is None or turned else inner * groups
        outputs = _size(scope, node.input[1], 1 if turned else 0)
        for name in node.input[2:3]:
            yield name, 0, outputs if outputs is None or not turned else outputs * groups
    for place in _PER_CHANNEL.get(node.op_type, ()):
        yield node.input[place], 0, channels


def _size(scope: Scope, name: str, axis: int) -> int | None:
    shape = scope.shapes.get(name, ())
    return shape[axis] if axis < len(shape) else None
