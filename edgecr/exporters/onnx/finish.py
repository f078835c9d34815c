"""The last touch on an ONNX file: outputs that an application reads at once, and notes on how to feed it."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx

from edgecr.core.errors import RequestError
from edgecr.data.views import ProofData
from edgecr.exporters.onnx.declaration import OnnxTarget
from edgecr.exporters.target import Written
from edgecr.predictors.onnx_file import LABELS, PREPROCESSING, WEIGHTS, describe_onnx, notes_of, read_onnx
from edgecr.subject import Subject
from edgecr.weights import hash_tensors

CLASSES, SCORES = "top_classes", "top_scores"
"""Outputs of a file with ``top_k``."""
_SCALED = "top_softmax"


def finished(written: Written, subject: Subject, target: OnnxTarget, proof: ProofData, file: Path) -> Written:
    """Writes the file anew with its notes and the outputs that the target adds."""
    model = read_onnx(file)
    if target.top_k is not None:
        _add_likeliest(model, target.top_k, target)
    notes = notes_of(model) | notes_on(written, subject, proof)
    onnx.helper.set_model_props(model, dict(sorted(notes.items())))
    onnx.checker.check_model(model, full_check=True)
    file.write_bytes(model.SerializeToString(deterministic=True))
    return replace(written, outputs=describe_onnx(file).outputs)


def notes_on(written: Written, subject: Subject, proof: ProofData) -> dict[str, str]:
    """The notes of a file of any format: how to feed it, what its answers mean, and which model it is."""
    preprocessing = asdict(proof.preprocessing) | {"embedded": written.embedded, "layout": written.input["layout"]}
    return {
        PREPROCESSING: json.dumps(preprocessing),
        LABELS: json.dumps(list(proof.classes), ensure_ascii=False),
        WEIGHTS: hash_tensors(subject.module.state_dict()),
    }


def _add_likeliest(model: onnx.ModelProto, count: int, target: OnnxTarget) -> None:
    """Puts a softmax and the choice of the likeliest classes behind the logits, which stay an output."""
    graph = model.graph
    logits = graph.output[0]
    batch, classes = logits.type.tensor_type.shape.dim
    if len(graph.output) != 1 or classes.dim_value < count:
        raise RequestError(
            f"Export target {target.name!r} asks for the {count} likeliest classes, but the model has "
            f"{classes.dim_value}. Set `top_k:` to {classes.dim_value} or less."
        )
    graph.initializer.append(onnx.numpy_helper.from_array(np.array([count], np.int64), "top_k"))
    graph.node.extend(
        [
            onnx.helper.make_node("Softmax", [logits.name], [_SCALED], name=_SCALED, axis=1),
            onnx.helper.make_node("TopK", [_SCALED, "top_k"], [SCORES, CLASSES], name="top_k", axis=1),
        ]
    )
    for name, kind in ((CLASSES, onnx.TensorProto.INT64), (SCORES, onnx.TensorProto.FLOAT)):
        output = onnx.helper.make_tensor_value_info(name, kind, [None, count])
        output.type.tensor_type.shape.dim[0].CopyFrom(batch)
        graph.output.append(output)
