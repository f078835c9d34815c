"""Convolutions of signs in OpenVINO: a bit for each weight and for each number that comes in, multiplied by XNOR."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from edgecr.core.errors import RequestError, UnsupportedModel
from edgecr.exporters.openvino.layers import layer_of, stored
from edgecr.predictors.openvino_file import openvino_library
from edgecr.subject import Subject
from edgecr.surgery.sign_inputs import layers_that_see_signs

_TOGETHER = 8
"""Input channels that the runtime packs into a byte; with others its answers are wrong, or it fails."""

_POINTWISE = ("Add", "Clamp", "HSwish", "Multiply", "PRelu", "Relu", "Sigmoid", "Subtract", "Swish", "Tanh")
"""Operators that the runtime fuses into a convolution, together with a sum before them."""


def require_signs(subject: Subject, target: str) -> None:
    """RequestError for a model without convolutions of signs."""
    if not layers_that_see_signs(subject.module):
        raise RequestError(
            f"Export target {target!r} computes with binary activations, and this model has none. Train it with "
            "`binarise: {activations: binary}`, or take another target, such as `onnx-compact` for binary weights."
        )


def with_bits(model: Any) -> dict[str, Any]:
    """Puts bits into the convolutions of signs, and tells of which; UnsupportedModel where none can have them."""
    found = [(each, signs) for each in model.get_ordered_ops() if (signs := _behind_signs(each)) is not None]
    bits, done, floats = dict[str, Any](), list[str](), dict[str, str]()
    for operator, signs in found:
        name, inputs = operator.get_friendly_name(), operator.get_input_shape(1)[1]
        if inputs % _TOGETHER:
            floats[name] = f"{inputs} channels come in; OpenVINO is only right with multiples of {_TOGETHER}"
            continue
        shared = signs.get_friendly_name()  # two convolutions may read one tensor
        bits[shared] = bits.get(shared) or _as_bits(signs)
        _replace(operator, bits[shared])
        done.append(name)
    if not done:
        why = "; ".join(f"{layer}: {reason}" for layer, reason in floats.items()) or "it made another graph of them"
        raise UnsupportedModel(
            f"openvino {openvino_library().__version__} can have none of the model's convolutions of signs in bits "
            f"({why}). Use the target `openvino`, which computes the same in floats."
        )
    return {"binary_layers": done, "float_layers": floats}


def _behind_signs(operator: Any) -> Any:
    """The node that gives a convolution the signs of numbers; None for all other operators."""
    if operator.get_type_name() != "Convolution":
        return None
    signs = operator.input(0).get_source_output().get_node()
    if signs.get_type_name() != "Select" or [_constant(signs, place) for place in (1, 2)] != [1, -1]:
        return None
    above = signs.input(0).get_source_output().get_node()
    return signs if above.get_type_name() == "Greater" and _constant(above, 1) == 0 else None


def _constant(node: Any, place: int) -> float | None:
    """The one number at an input; None for anything else."""
    values = stored(node.input(place))
    return float(values.reshape(-1)[0]) if values is not None and values.size == 1 else None


def _as_bits(signs: Any) -> Any:
    """1 for each number above zero, else 0; with -1 in place of 0 the runtime's answers are wrong."""
    operators = _operators()
    source = signs.input(0).get_source_output().get_node().input(0).get_source_output()
    if _is_sum(source.get_node()):
        # Fused into the convolution behind whose output the sum stands, it would read that output as if it were bits.
        source = operators.max_pool(source, [1, 1], [0, 0], [0, 0], [1, 1]).output(0)
    limits = [operators.constant(np.float32(limit)) for limit in (0, 0, 0, 1)]
    return operators.fake_quantize(source, *limits, levels=2)


def _is_sum(node: Any) -> bool:
    """True for the sum of two computed tensors, and for what is computed of one number by number."""
    inputs = [port.get_source_output().get_node() for port in node.inputs() if stored(port) is None]
    if node.get_type_name() == "Add" and len(inputs) > 1:
        return True
    return node.get_type_name() in _POINTWISE and len(inputs) == 1 and _is_sum(inputs[0])


def _replace(operator: Any, bits: Any) -> None:
    """Puts a convolution of bits, times the magnitude of each channel, in the place of one of floats."""
    operators, name = _operators(), operator.get_friendly_name()
    weights = stored(operator.input(1))
    magnitudes = _magnitudes(weights, layer_of(name))
    told = operator.get_attributes()
    made = operators.binary_convolution(
        bits,
        _packed(weights),
        *(told[key] for key in ("strides", "pads_begin", "pads_end", "dilations")),
        mode="xnor-popcount",
        pad_value=0.0,
    )
    scaled = operators.multiply(made, operators.constant(magnitudes.reshape(1, -1, 1, 1)))
    operator.output(0).replace(scaled.output(0))
    operator.set_friendly_name(f"{name} in floats")
    made.set_friendly_name(name)


def _magnitudes(weights: np.ndarray, layer: str) -> np.ndarray:
    """The magnitude of each channel."""
    sizes = np.abs(weights).reshape(len(weights), -1)
    if not (sizes[:, :1] == sizes).all() or not sizes.all():
        raise UnsupportedModel(
            f"The layer {layer!r} sees signs, but the weights of a channel are not all of one magnitude. A bit cannot "
            "hold zeros: remove masks of these layers, or use the target `openvino`."
        )
    return np.ascontiguousarray(sizes[:, 0])


def _packed(weights: np.ndarray) -> Any:
    """Signs as a constant of one bit each, which owns its memory."""
    library = openvino_library()
    packed = np.packbits(weights.reshape(-1) > 0, bitorder="little")
    tensor = library.Tensor(packed, list(weights.shape), library.Type.u1)
    return importlib.import_module("openvino.op").Constant(tensor, shared_memory=False)


def _operators() -> Any:
    """The first set of operators, the only one with a convolution of bits."""
    openvino_library()
    return importlib.import_module("openvino.opset1")
