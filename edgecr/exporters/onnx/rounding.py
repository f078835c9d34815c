"""Rounding a written float32 file to fewer bits, in its place and without a word on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from edgecr.data.views import ProofData
from edgecr.exporters.base import Written
from edgecr.exporters.onnx.declaration import OnnxTarget, Quantise
from edgecr.exporters.onnx.half import beyond_half, halved, kept_whole
from edgecr.exporters.onnx.quantise import VERSION, quantised, ranges
from edgecr.exporters.onnx.write import check, cleaned, silence
from edgecr.predictors.onnx_file import read_onnx

_PAIRS = ("QuantizeLinear", "DequantizeLinear")
_WATCHED = 32
"""Training images on which values beyond float16 are looked for."""


def rounded(written: Written, target: OnnxTarget, proof: ProofData, file: Path) -> Written:
    """Writes the file anew in the precision of the target; the caller proves its numbers."""
    whole, facts = read_onnx(file), dict[str, Any]()
    made = whole
    if target.precision == "int8":
        with silence():
            made, facts = quantised(whole, target, proof)
    if target.precision == "fp16" or (target.quantise or Quantise()).floats == "fp16":
        kept = with_weights(made, kept_whole(made, as_rounded(made, seen_beyond_half(whole, target, proof))))
        made = halved(made, kept)
        facts |= {"float32": sorted(set(kept.values()))} if kept else {}
    made = cleaned(made)
    check(made, target)
    file.write_bytes(made.SerializeToString(deterministic=True))
    return replace(written, made_with=written.made_with | {"onnxruntime": VERSION}, rounding=facts)


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
