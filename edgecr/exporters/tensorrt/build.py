"""The build of an engine in the words of each version of TensorRT: trtexec's flags, and those of the builder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgecr.exporters.tensorrt.declaration import TensorRtTarget
from edgecr.exporters.tensorrt.versions import Version

FILE = "build.json"
SCHEMA = 1
PROVEN = "The ONNX file answered like PyTorch in ONNX Runtime. No TensorRT has run: the board's own build is the proof."


def recipe(target: TensorRtTarget, model: str, shape: Mapping[str, Any], sparse: Sequence[str] = ()) -> dict[str, Any]:
    """All that a board needs to build the engine; ``shape`` is the file's input as a manifest describes it.

    ``sparse`` are the layers whose weights hold two zeros in every four.
    """
    return {
        "schema": SCHEMA,
        "model": model,
        "engine": "model.engine",
        "timing_cache": "timing.cache",
        "jetpack": target.jetpack,
        "precision": target.precision,
        "strongly_typed": target.strongly_typed,
        "profile": _profile(target, shape),
        "sparse_layers": list(sparse),
        "proven": PROVEN,
        "versions": {version.name: _for(version, target, model, shape) for version in target.versions},
    }


def _for(version: Version, target: TensorRtTarget, model: str, shape: Mapping[str, Any]) -> dict[str, Any]:
    typed = version.strongly_typed
    return {
        "trtexec": list(_flags(version, target, model, shape)),
        "network_flags": ["STRONGLY_TYPED"] if typed else ["EXPLICIT_BATCH"],
        "builder_flags": [*([] if typed else _weak_types(target)), *(["SPARSE_WEIGHTS"] if target.sparsity else [])],
        "builder_flags_off": ["TF32"] if target.precision == "fp32" else [],
        "workspace_bytes": target.workspace_mb << 20,
        "source": version.source,
    }


def _weak_types(target: TensorRtTarget) -> list[str]:
    """The precisions that a builder may choose from where the file's types do not decide."""
    return {"fp32": [], "fp16": ["FP16"], "int8": ["FP16", "INT8"]}[target.precision]


def _flags(version: Version, target: TensorRtTarget, model: str, shape: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"--onnx={model}", "--saveEngine=model.engine", "--timingCacheFile=timing.cache")
    pool = f"workspace:{target.workspace_mb}"
    yield f"--memPoolSize={pool}" if version.number >= (8, 4) else f"--workspace={target.workspace_mb}"
    if not version.strongly_typed:
        yield from (f"--{name.lower()}" for name in _weak_types(target))
    elif version.number < (11, 0):
        yield "--stronglyTyped"  # from version 11 on every network is
    if target.precision == "fp32":
        yield "--noTF32"  # which rounds the inputs of convolutions to 10 bits
    if target.sparsity:
        yield "--sparsity=enable"
    for name, dims in _profile(target, shape).items():
        yield f"--{name}Shapes={shape['name']}:{'x'.join(map(str, dims))}"
    if version.number >= (8, 4):
        yield "--profilingVerbosity=detailed"
    yield "--skipInference" if version.number >= (8, 6) else "--buildOnly"


def _profile(target: TensorRtTarget, shape: Mapping[str, Any]) -> dict[str, list[int]]:
    """The input's shapes that the engine is built for; none where the file fixes its batch."""
    first, *rest = shape["shape"]
    batches = target.batch
    if first is not None:
        return {}
    return {name: [count, *rest] for name, count in (("min", batches.min), ("opt", batches.opt), ("max", batches.max))}
