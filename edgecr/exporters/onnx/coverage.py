"""Coverage of an 8-bit file: the share of its work that ONNX Runtime really does in integers on this machine."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import onnx

from edgecr.core.processor import vnni
from edgecr.exporters.integers import IntegerWork
from edgecr.exporters.onnx.count import count_onnx
from edgecr.exporters.onnx.names import layer_name
from edgecr.predictors.onnx_file import has_signed_activations, read_onnx
from edgecr.predictors.onnx_predictor import open_session

_INTEGER = {"QLinearConv": 3, "QLinearMatMul": 3, "QGemm": 3, "MatMulIntegerToFloat": 1, "ConvInteger": 1}
"""Integer operators, and the place of their weight."""
_PAIRS = ("QuantizeLinear", "DequantizeLinear")
_NARROW = 64
"""The largest weight of 7 bits."""


def integer_work(path: Path) -> IntegerWork | None:
    """The integer part of a file's work, from the graph that the runtime makes of it; None for a file of floats."""
    model = read_onnx(path)
    if {node.op_type for node in model.graph.node}.isdisjoint((*_PAIRS, *_INTEGER)):
        return None
    signed = has_signed_activations(model)
    nodes = _as_run(path)
    left = Counter(layer_name(node.input[_INTEGER[node.op_type]]) for node in nodes if node.op_type in _INTEGER)
    macs, every, elsewhere = divided(path, left)
    return IntegerWork(
        macs=macs,
        all_macs=every,
        float_layers=elsewhere,
        pairs=sum(node.op_type in _PAIRS for node in nodes),
        kernels="ARM" if signed else "x86",
        saturates=not signed and vnni() is False and _has_8_bit_weights(model),
    )


def divided(path: Path, in_integers: Counter[str]) -> tuple[int, int, dict[str, int]]:
    """The multiply-accumulates in integers, those of all layers, and those of each layer in floats.

    ``in_integers`` counts the layers of each name that run in integers.
    """
    macs, elsewhere = 0, dict[str, int]()
    layers = count_onnx(path).layers
    for layer in layers:
        if in_integers[layer.name]:
            in_integers[layer.name] -= 1
            macs += layer.macs
        else:
            elsewhere[layer.name] = elsewhere.get(layer.name, 0) + layer.macs
    return macs, sum(layer.macs for layer in layers), elsewhere


def _as_run(path: Path) -> list[onnx.NodeProto]:
    with tempfile.TemporaryDirectory() as folder:
        optimised = Path(folder) / "optimised.onnx"
        open_session(path, 1, optimised=optimised)
        return list(read_onnx(optimised).graph.node)


def _has_8_bit_weights(model: onnx.ModelProto) -> bool:
    """True if some weight is too large for 7 bits."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.INT8}
    weights = [
        node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in stored
    ]
    return any((abs(onnx.numpy_helper.to_array(stored[name]).astype(int)) > _NARROW).any() for name in weights)
