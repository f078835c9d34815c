"""From an ONNX file in float32 to one in 8-bit integers: ranges from training images, and rounded weights.

ONNX Runtime's quantiser puts a pair of QuantizeLinear and DequantizeLinear on each value between layers, which the
runtime fuses into integer operators.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from edgecr.predictors.onnx_predictor import (  # stands before the runtime: it turns telemetry off
    AS_WRITTEN,
    open_session,
)

# isort: split
import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from edgecr.core.errors import UnsupportedModel
from edgecr.data.views import ProofData
from edgecr.exporters.control import Controlling, error
from edgecr.exporters.drop import DropMeter
from edgecr.exporters.onnx.calibration import RULES, Activations, Range
from edgecr.exporters.onnx.declaration import OnnxTarget, Quantise
from edgecr.exporters.onnx.names import weighted_nodes
from edgecr.exporters.onnx.placement import grouped, shortcuts
from edgecr.exporters.rounding import calibration_inputs, excluded, file_inputs, narrow_weights
from edgecr.tasks import Outputs

VERSION = str(onnxruntime.__version__)
"""The runtime whose quantiser is used."""
_PORTION = 4
"""Images that pass at once: all values between layers are kept for them."""
_COMPARED = 4
"""One image in so many compares calibrators."""
_WEIGHTED = ("Conv", "Gemm", "MatMul")
_BETWEEN: tuple[str, ...] = (
    "Add",
    "AveragePool",
    "Clip",
    "Concat",
    "Flatten",
    "GlobalAveragePool",
    "LeakyRelu",
    "MaxPool",
    "Mul",
)
_BETWEEN += ("Pad", "Relu", "Reshape", "Resize", "Sigmoid", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")
_TYPES = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}


@dataclass(frozen=True)
class Finished:
    """A model in the form in which it ships, and what is told of it."""

    model: onnx.ModelProto
    facts: Mapping[str, Any] = field(default_factory=dict)


def quantised(
    model: onnx.ModelProto,
    target: OnnxTarget,
    proof: ProofData,
    finish: Callable[[onnx.ModelProto], Finished] = Finished,
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """A float32 model rounded by the settings of a target, and what was chosen; the caller silences and proves it.

    ``finish`` is what else is done to a rounded model.
    """
    options = target.quantise or Quantise()
    model = _prepared(model)
    narrow, why = _range_of_weights(options)
    kept = _kept(model, options)
    if options.placement == "tensorrt":
        kept = [*kept, *grouped(model, {node.name for node, _ in weighted_nodes(model, _WEIGHTED)})]
    work = _Work(model, options, kept, narrow)
    inputs = calibration_inputs(target, options.images, proof)
    if options.calibrator == "auto" and len(inputs) >= _COMPARED:
        order = np.random.default_rng(0).permutation(len(inputs))  # images may come in turns of classes
        held = order < len(inputs) // _COMPARED
        chosen = work.nearest(inputs[~held], inputs[held], _portion(target))
    else:
        rule = "minmax" if options.calibrator == "auto" else options.calibrator
        limits = Activations(model, _portions(inputs, _portion(target))).ranges(rule)
        chosen = _Chosen(rule, limits, work.rounded(limits), {})
    facts: dict[str, Any] = {"reduce_range": narrow, "reduce_range_because": why, "calibrator": chosen.rule}
    if options.max_drop is None:
        made = finish(chosen.model)
    else:
        control = _controlling(work, chosen.limits, target, proof, finish).within(options.max_drop)
        made, facts = control.model, facts | control.plain()
    facts |= made.facts
    return made.model, options.model_dump(mode="json") | {"images": len(inputs), "losses": chosen.losses} | facts


def rounded_between(model: onnx.ModelProto, options: Quantise, limits: Mapping[str, Range]) -> onnx.ModelProto:
    """A float32 model rounded as usual, but between given limits of its values; for files that are only measured."""
    return _Work(_prepared(model), options, [], narrow=True).rounded(limits)


def _controlling(
    work: _Work,
    limits: Mapping[str, Range],
    target: OnnxTarget,
    proof: ProofData,
    finish: Callable[[onnx.ModelProto], Finished],
) -> Controlling:
    """The search for layers that stay in floats besides those that do anyway; files are judged as they ship."""

    def rounder(more: Collection[str]) -> Finished:
        return finish(work.rounded(limits, more))

    def ask(made: Finished, portions: Sequence[np.ndarray]) -> list[Sequence[np.ndarray]]:
        return _asked(work.session, made.model, portions)

    nodes = {node.name: layer for node, layer in weighted_nodes(work.model, _WEIGHTED) if node.name not in work.kept}
    meter = DropMeter(Finished(work.model), proof, partial(file_inputs, target, proof), _portion(target), ask)
    return Controlling(rounder, nodes, meter)


def ranges(model: onnx.ModelProto, target: OnnxTarget, proof: ProofData, count: int) -> Mapping[str, Range]:
    """The extremes of all activations on some training images; none where there are no images."""
    if not len(proof.calibration(count)):
        return {}
    inferred: onnx.ModelProto = onnx.shape_inference.infer_shapes(model)
    inputs = calibration_inputs(target, count, proof)
    return Activations(inferred, _portions(inputs, _portion(target))).extremes


def _portion(target: OnnxTarget) -> int:
    return _PORTION if target.dynamic_batch else 1


def _portions(inputs: np.ndarray, size: int) -> list[np.ndarray]:
    return [inputs[start : start + size] for start in range(0, len(inputs), size)]


def _range_of_weights(options: Quantise) -> tuple[bool, str]:
    """True for 7-bit weights, and the reason."""
    if options.activations == "int8" and options.reduce_range == "auto":
        return False, "int8 x int8 does not saturate"
    return narrow_weights(options)


def _prepared(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with types of all values, and with means over height and width as pooling, which has integers."""
    prepared: onnx.ModelProto = onnx.shape_inference.infer_shapes(model)
    graph = prepared.graph
    axes = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in (*graph.value_info, *graph.input)}
    for node in graph.node:
        if node.op_type == "ReduceMean" and _is_pooling(node, axes, ranks):
            node.op_type = "GlobalAveragePool"
            del node.input[1:], node.attribute[:]
    used = {name for node in graph.node for name in node.input}
    stored = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(stored)
    return prepared


def _is_pooling(node: onnx.NodeProto, constants: Mapping[str, np.ndarray], ranks: Mapping[str, int]) -> bool:
    keeps = all(item.i for item in node.attribute if item.name == "keepdims")
    if not keeps or ranks.get(node.input[0]) != 4 or len(node.input) < 2:
        return False
    return sorted(axis % 4 for axis in constants.get(node.input[1], np.zeros(0, int)).ravel()) == [2, 3]


def _kept(model: onnx.ModelProto, options: Quantise) -> list[str]:
    """The nodes that stay in float32."""
    return excluded(((node.name, layer) for node, layer in weighted_nodes(model, _WEIGHTED)), options.exclude)


class _Quantiser(QDQQuantizer):  # type: ignore[misc]
    """The runtime's quantiser, but some values stay in floats."""

    floats: Collection[str] = ()

    def quantize_activation_tensor(self, tensor_name: str) -> None:
        """Marks a value to be rounded."""
        if tensor_name not in self.floats:
            super().quantize_activation_tensor(tensor_name)


@dataclass(frozen=True)
class _Chosen:
    """A rounded file, and the rule that its ranges came by."""

    rule: str
    limits: Mapping[str, Range]
    model: onnx.ModelProto
    losses: Mapping[str, float]
    """The losses of all rules that were compared."""


@dataclass(frozen=True)
class _Work:
    """A model to round, and the settings that do not depend on images."""

    model: onnx.ModelProto
    options: Quantise
    kept: Sequence[str]
    """The nodes that stay in float32."""
    narrow: bool
    """True for weights of 7 bits."""

    @property
    def session(self) -> Mapping[str, str] | None:
        """Settings of the sessions that compare rounded files: what is for TensorRT is computed as it is written."""
        return AS_WRITTEN if self.options.placement == "tensorrt" else None

    def nearest(self, seen: np.ndarray, held: np.ndarray, portion: int) -> _Chosen:
        """The file of the rule whose outputs are nearest to float32 on images that the ranges have not seen."""
        activations = Activations(self.model, _portions(seen, portion))
        limits = {rule: activations.ranges(rule) for rule in ("minmax", *RULES)}
        made = {rule: self.rounded(each) for rule, each in limits.items()}
        losses = _losses(self.model, made, _portions(held, portion), self.session)
        rule = min(losses, key=lambda each: losses[each])
        return _Chosen(rule, limits[rule], made[rule], losses)

    def rounded(self, ranges: Mapping[str, Range], more: Collection[str] = ()) -> onnx.ModelProto:
        """The model in 8-bit integers, with ``more`` nodes that stay in floats."""
        kept = [*self.kept, *more]
        copy = onnx.ModelProto()
        copy.CopyFrom(self.model)
        limits = {name: tuple(np.float32(limit) for limit in each) for name, each in ranges.items()}
        try:
            quantiser = _Quantiser(
                copy,
                self.options.per_channel,
                self.narrow,
                QuantType.QInt8,
                _TYPES[self.options.activations],
                TensorsData(CalibrationMethod.MinMax, limits),
                [],
                kept,
                [*_WEIGHTED] if self.options.placement == "tensorrt" else [*_WEIGHTED, *_BETWEEN],
                self._settings(),
            )
            quantiser.floats = _last(copy)
            if self.options.placement == "tensorrt":
                for name in shortcuts(copy, set(kept)):
                    quantiser.quantize_activation_tensor(name)
            quantiser.quantize_model()
        except Exception as error:  # the quantiser raises whatever fails inside it
            raise UnsupportedModel(f"ONNX Runtime cannot round this model to 8-bit integers: {error}") from error
        return _with_known_shapes(_in_order(quantiser.model.model, self.model))

    def _settings(self) -> dict[str, Any]:
        """Further settings of the runtime's quantiser."""
        ours = self.options.placement == "tensorrt"
        return {
            "ActivationSymmetric": self.options.symmetric,
            "AddQDQPairToWeight": self.options.stored == "fp32",
            "OpTypesToExcludeOutputQuantization": [*_WEIGHTED] if ours else [],
            "QuantizeBias": not ours,
        }


def _in_order(model: onnx.ModelProto, before: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its nodes in the order that they had before, each behind those that it reads."""
    places = {node.name: place for place, node in enumerate(before.graph.node)}
    nodes = sorted(model.graph.node, key=lambda node: places.get(node.name, len(places)))
    makers = {name: number for number, node in enumerate(nodes) for name in node.output}
    ordered = dict[int, onnx.NodeProto]()

    def place(number: int) -> None:
        for name in nodes[number].input:
            if name in makers and makers[name] not in ordered:
                place(makers[name])
        ordered.setdefault(number, nodes[number])

    for number in range(len(nodes)):
        place(number)
    del model.graph.node[:]
    model.graph.node.extend(ordered.values())
    return model


def _with_known_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without the shapes of values that are gone."""
    left = {name for node in model.graph.node for name in node.output}
    known = [value for value in model.graph.value_info if value.name in left]
    del model.graph.value_info[:]
    model.graph.value_info.extend(known)
    return model


def _last(model: onnx.ModelProto) -> set[str]:
    """The outputs of the file that a linear layer gives, its bias added, and that nothing else reads."""
    graph = model.graph
    read = {name for node in graph.node for name in node.input}
    products = {node.output[0] for node in graph.node if node.op_type == "MatMul"}
    linear = {
        node.output[0]
        for node in graph.node
        if node.op_type in ("Gemm", "MatMul") or (node.op_type == "Add" and not products.isdisjoint(node.input))
    }
    return {output.name for output in graph.output} & linear - read


def _losses(
    model: onnx.ModelProto,
    candidates: Mapping[str, onnx.ModelProto],
    portions: Sequence[np.ndarray],
    settings: Mapping[str, str] | None,
) -> dict[str, float]:
    """The error of each candidate's outputs against those in float32."""
    expected = _outputs(model, portions)
    return {rule: error(expected, _outputs(each, portions, settings)) for rule, each in candidates.items()}


def _outputs(
    model: onnx.ModelProto, portions: Sequence[np.ndarray], settings: Mapping[str, str] | None = None
) -> Outputs:
    """The outputs for all portions, by their places."""
    asked = zip(*_asked(settings, model, portions))
    return {str(place): np.concatenate(parts) for place, parts in enumerate(asked)}


def _asked(
    settings: Mapping[str, str] | None, model: onnx.ModelProto, portions: Sequence[np.ndarray]
) -> list[Sequence[np.ndarray]]:
    """The outputs for each portion, in a session of some settings; None for those that the model asks for."""
    session = open_session(model.SerializeToString(), settings=settings)
    name = session.get_inputs()[0].name
    return [session.run(None, {name: portion}) for portion in portions]
