"""Rounding a written float32 file to fewer bits, in its place and without a word on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import onnx

from edgecr.data.views import ProofData
from edgecr.exporters.base import Written
from edgecr.exporters.onnx.declaration import OnnxTarget, Quantise
from edgecr.exporters.onnx.half import beyond_half, halved, kept_whole
from edgecr.exporters.onnx.quantise import VERSION, Finished, quantised, ranges
from edgecr.exporters.onnx.write import check, cleaned, silence
from edgecr.predictors.onnx_file import read_onnx

_PAIRS = ("QuantizeLinear", "DequantizeLinear")
_WATCHED = 32
"""Training images on which values beyond float16 are looked for."""


def rounded(written: Written, target: OnnxTarget, proof: ProofData, file: Path) -> Written:
    """Writes the file anew in the precision of the target; the caller proves its numbers."""
    whole = read_onnx(file)
    finish = _finish(whole, target, proof)
    if target.precision == "int8":
        with silence():
            made, facts = quantised(whole, target, proof, finish)
    else:
        found = finish(whole)
        made, facts = found.model, dict(found.facts)
    made = cleaned(made)
    check(made, target)
    file.write_bytes(made.SerializeToString(deterministic=True))
    return replace(written, made_with=written.made_with | {"onnxruntime": VERSION}, rounding=facts)


def _finish(whole: onnx.ModelProto, target: OnnxTarget, proof: ProofData) -> Callable[[onnx.ModelProto], Finished]:
    """The last change of a model, rounded to integers or not: its floats get the format that the target asks for."""
    if target.precision == "fp16" or (target.quantise or Quantise()).floats == "fp16":
        return partial(_in_half, seen_beyond_half(whole, target, proof))
    return Finished


def _in_half(beyond: Mapping[str, float], model: onnx.ModelProto) -> Finished:
    kept = with_weights(model, kept_whole(model, as_rounded(model, beyond)))
    return Finished(halved(model, kept), {"float32": sorted(set(kept.values()))} if kept else {})


def as_rounded(model: onnx.ModelProto, values: Mapping[str, float]) -> dict[str, float]:
    """The figures of values, also under the names that their rounded forms bear in a model."""
    found = dict(values)
    pairs = [node for node in model.graph.node if node.op_type in _PAIRS]
    for node in pairs:
        if node.input[0] in found:
            found.setdefault(node.output[0], found[node.input[0]])
    for node in reversed(pairs):  # an output of the file keeps its name behind its rounding
        if node.output[0] in found:
            found.setdefault(node.input[0], found[node.output[0]])
    return found


def with_weights(model: onnx.ModelProto, kept: Mapping[str, str]) -> dict[str, str]:
    """The nodes that stay in float32, and those that make stored integers floats only for them: so they stay integers.

    A conversion between a weight and its layer would part them for the runtime.
    """
    found = dict(kept)
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in reversed(model.graph.node):
        mine = readers.get(node.output[0], [])
        if node.op_type in _PAIRS and mine and all(reader.output[0] in found for reader in mine):
            found.setdefault(node.output[0], found[mine[0].output[0]])
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return found


def seen_beyond_half(model: onnx.ModelProto, target: OnnxTarget, proof: ProofData) -> dict[str, float]:
    """The activations of a float32 model that leave the range of float16 on training images, and how far they go."""
    return dict(beyond_half(ranges(model, target, proof, _WATCHED)))
