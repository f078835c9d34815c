"""The values of a network that are rounded to integers for TensorRT: the inputs of layers, and shortcuts.

TensorRT fuses a convolution with the addition behind it if the other addend, the shortcut, is rounded, and the
convolution's own result is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import onnx

_LAYERS = ("Conv", "Gemm", "MatMul")


def grouped(model: onnx.ModelProto, layers: Collection[str]) -> list[str]:
    """The nodes that stay in floats: grouped convolutions, and products without a stored weight."""
    return [
        node.name
        for node in model.graph.node
        if node.op_type in _LAYERS and (node.name not in layers or _groups(node) > 1)
    ]


def shortcuts(model: onnx.ModelProto, kept: Collection[str]) -> list[str]:
    """The addends that are rounded: those beside the result of a layer that runs in integers."""
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    readers = Counter(name for node in graph.node for name in node.input)
    readers.update(output.name for output in graph.output)
    depths = _depths(graph)
    found = []
    for node in graph.node:
        if node.op_type != "Add" or not all(name in makers for name in node.input):
            continue
        fused = [name for name in node.input if readers[name] == 1 and _in_integers(makers[name], kept)]
        if fused:
            main = max(fused, key=lambda name: depths[name])  # of two convolutions, the one of the longer branch
            found.append(node.input[1 - list(node.input).index(main)])
    return found


def _depths(graph: onnx.GraphProto) -> dict[str, int]:
    """The number of layers that stand before each value, on the longest way to it."""
    found: dict[str, int] = {}
    for node in graph.node:
        before = max((found.get(name, 0) for name in node.input), default=0)
        found.update(dict.fromkeys(node.output, before + (node.op_type in _LAYERS)))
    return found


def _in_integers(node: onnx.NodeProto, kept: Collection[str]) -> bool:
    return node.op_type in _LAYERS and node.name not in kept


def _groups(node: onnx.NodeProto) -> int:
    return next((int(item.i) for item in node.attribute if item.name == "group"), 1)
