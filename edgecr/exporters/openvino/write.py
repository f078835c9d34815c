"""Writing a subject as OpenVINO's two files: the same bytes each time, without a word on the terminal."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from edgecr.core.errors import UnsupportedModel
from edgecr.core.files import not_written
from edgecr.data.views import ProofData
from edgecr.exporters.base import Written
from edgecr.exporters.onnx import write as onnx_write
from edgecr.exporters.onnx.finish import notes_on
from edgecr.exporters.onnx.names import weighted_nodes
from edgecr.exporters.openvino.binary import require_signs, with_bits
from edgecr.exporters.openvino.declaration import OpenVinoTarget
from edgecr.exporters.openvino.layers import CONVOLUTIONS, KINDS, use_of
from edgecr.exporters.target import BINARY
from edgecr.predictors.onnx_file import read_onnx
from edgecr.predictors.openvino_file import LAYERS, described, last_line, openvino_library
from edgecr.subject import Subject

_IN_ONNX = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_STREAM = "iostream error"
"""The words of the standard library for a failed write; the reason is not told."""
_WITHOUT_BIAS = "/WithoutBiases"
"""The ending that OpenVINO gives to a layer whose bias it adds apart."""


def write(subject: Subject, target: OpenVinoTarget, proof: ProofData, folder: Path) -> Written:
    """Writes both files; the caller proves their numbers."""
    if target.precision == BINARY:
        require_signs(subject, target.name)
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "model.onnx"
        traced = onnx_write.write(subject, target.as_onnx(), proof.preprocessing, source, task=proof.task)
        return from_onnx(source, traced, subject, target, proof, folder)


def from_onnx(
    source: Path, traced: Written, subject: Subject, target: OpenVinoTarget, proof: ProofData, folder: Path
) -> Written:
    """Writes both files from an ONNX file in float32, of which ``traced`` tells."""
    library, model = openvino_library(), converted(source)
    order = with_layer_names(model, layer_names(read_onnx(source)))
    made_with, rounding = traced.made_with | {"openvino": library.__version__}, dict[str, Any]()
    if target.precision == "int8":
        from edgecr.exporters.openvino import quantise  # loads nncf

        model, rounding = quantise.quantised(model, order, target, proof)
        made_with |= {"nncf": quantise.version()}
    elif target.precision == BINARY:
        rounding = with_bits(model)
    _without_counters(model)
    _note(model, notes_on(traced, subject, proof), order)
    model.validate_nodes_and_infer_types()
    save(model, folder / target.main, half=target.precision == "fp16")
    inputs, outputs = ([described(port) for port in ports] for ports in (model.inputs, model.outputs))
    return Written(
        target.main, inputs[0] | {"layout": traced.input["layout"]}, outputs, made_with, traced.embedded, rounding
    )


def save(model: Any, file: Path, half: bool = False) -> None:
    """Writes both files of a model; StorageError where that fails."""
    try:
        openvino_library().save_model(model, file, compress_to_fp16=half)
    except RuntimeError as error:
        if _STREAM not in str(error):
            raise
        raise not_written(file, "the disk is full, or writing it failed otherwise") from error


def converted(file: Path) -> Any:
    """The model in an ONNX file, with what is constant computed."""
    library = openvino_library()
    try:
        with onnx_write.silence():
            return library.convert_model(file)
    except Exception as error:  # each of its frontends raises kinds of its own
        raise UnsupportedModel(f"openvino {library.__version__} cannot take this model: {last_line(error)}") from error


def layer_names(model: onnx.ModelProto) -> dict[str, str]:
    """The layer of each node of an ONNX model that multiplies by weights, in the order in which they run.

    A normalisation right behind a layer bears its name too: the converter folds it into a copy of the layer's weights,
    and leaves the name of the normalisation to what follows.
    """
    norms = {node.input[0]: node.name for node in model.graph.node if node.op_type == "BatchNormalization"}
    found = {}
    for node, layer in weighted_nodes(model, _IN_ONNX):
        found[node.name] = layer
        if node.output[0] in norms:
            found[norms[node.output[0]]] = layer
    return found


def with_layer_names(model: Any, names: Mapping[str, str]) -> list[str]:
    """Names the operators after their layers; returns the names in the order in which they run."""
    places, uses, named = {node: number for number, node in enumerate(names)}, Counter[str](), dict[int, Any]()
    for operator in model.get_ordered_ops():
        if operator.get_type_name() in KINDS and (node := _origin(operator, names)) is not None:
            named[places[node]] = operator
    order = []
    for number, operator in sorted(named.items()):
        layer = list(names.values())[number]
        order.append(use_of(layer, uses[layer]))
        uses[layer] += 1
        operator.set_friendly_name(order[-1])
    return order


def _origin(operator: Any, nodes: Mapping[str, str]) -> str | None:
    """The node of the ONNX model that an operator was made of; others only left their name to what follows."""
    own = operator.get_friendly_name().removesuffix(_WITHOUT_BIAS)
    if own in nodes:
        return str(own)
    readers = [reader.get_node().get_friendly_name() for reader in operator.output(0).get_target_inputs()]
    return next((name for name in readers if name in nodes), None) if operator.get_type_name() in CONVOLUTIONS else None


def _without_counters(model: Any) -> None:
    """Renames all that is no layer, input or output: OpenVINO numbers them through as long as a process lives."""
    layers = {operator.get_friendly_name() for operator in model.get_ordered_ops() if operator.get_type_name() in KINDS}
    for number, node in enumerate(model.get_ordered_ops()):
        if node.get_type_name() not in ("Parameter", "Result") and node.get_friendly_name() not in layers:
            node.set_friendly_name(f"{node.get_type_name()}_{number}")
    model.set_friendly_name("model")


def _note(model: Any, notes: Mapping[str, str], layers: Sequence[str]) -> None:
    """Puts what belongs to the model into the file in place of the converter's notes, which hold paths."""
    for key in list(model.rt_info):
        del model.rt_info[key]
    for key, text in notes.items():
        model.set_rt_info(text, key.split("."))
    model.set_rt_info(json.dumps(layers), list(LAYERS))
