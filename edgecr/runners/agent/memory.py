"""The memory that an ONNX file needs for one inference, estimated from its graph before anything is started."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

LARGE_CONSTANT = 4096
"""Elements; what is smaller may hold a shape, which the inference of shapes reads."""
MOST_BYTES = 1 << 62
"""An estimate stays a number that JSON and the board can hold, whatever a hostile file claims."""


@dataclass(frozen=True)
class Need:
    """Bytes: what the weights take once loaded, and what one call takes on top of them."""

    weights: int
    call: int

    def plain(self) -> dict[str, int]:
        """The need as the agent is told it."""
        return {"weights": min(self.weights, MOST_BYTES), "call": min(self.call, MOST_BYTES)}


def need_of(model: Any, batch: int) -> Need:
    """The need of a parsed model with that batch; a part whose shape nobody can infer is as large as its input."""
    weights = sum(_bytes(tensor.data_type, tensor.dims) for tensor in model.graph.initializer)
    sizes = _activation_sizes(model, batch)
    inputs = sum(sizes.get(one.name, 0) for one in _real_inputs(model.graph))
    return Need(weights, inputs + _peak(model.graph, sizes))


def _activation_sizes(model: Any, batch: int) -> dict[str, int]:
    """Bytes of every value whose shape can be inferred."""
    import onnx

    light = _without_values(model)
    for one in _real_inputs(light.graph):
        for place, dim in enumerate(one.type.tensor_type.shape.dim):
            if dim.WhichOneof("value") != "dim_value":
                dim.dim_value = batch if place == 0 else 1
    try:
        inferred = onnx.shape_inference.infer_shapes(light, data_prop=True).graph
    except Exception:  # it raises its own class and others; the runtime on the board is the judge of the file
        inferred = light.graph
    values = [*inferred.value_info, *inferred.input, *inferred.output]
    return {one.name: size for one in values if (size := _size(one.type.tensor_type)) is not None}


def _without_values(model: Any) -> Any:
    """A copy of the model whose large constants are inputs: shapes are inferred from their dimensions alone."""
    import onnx
    from onnx import helper

    light = onnx.ModelProto()
    light.opset_import.extend(model.opset_import)
    light.ir_version, light.graph.name = model.ir_version, model.graph.name
    light.graph.node.extend(model.graph.node)
    light.graph.input.extend(model.graph.input)
    light.graph.output.extend(model.graph.output)
    light.graph.value_info.extend(model.graph.value_info)
    named = {one.name for one in model.graph.input}
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= LARGE_CONSTANT:
            light.graph.initializer.append(tensor)
        elif tensor.name not in named:
            light.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    return light


def _real_inputs(graph: Any) -> Iterator[Any]:
    """The inputs that a caller gives; in old files the weights are listed there too."""
    constants = {one.name for one in graph.initializer}
    return (one for one in graph.input if one.name not in constants)


def _peak(graph: Any, sizes: Mapping[str, int]) -> int:
    """The most that the results of the nodes hold at one time, each freed after its last use."""
    constants = {one.name for one in graph.initializer} | {one.name for one in graph.input}
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(one.name for one in graph.output)
    held: dict[str, int] = {}
    largest = total = 0
    for node in graph.node:
        like_input = max((held.get(name, sizes.get(name, 0)) for name in node.input), default=0)
        for name in filter(None, node.output):
            held[name] = sizes.get(name, like_input)
            total += held[name]
        largest = max(largest, total)
        for name in node.input:
            uses[name] -= 1
            if not uses[name] and name not in constants:
                total -= held.pop(name, 0)
    return largest


def _size(tensor_type: Any) -> int | None:
    """Bytes of a value, None while one of its dimensions is unknown."""
    dims = [dim.dim_value if dim.WhichOneof("value") == "dim_value" else None for dim in tensor_type.shape.dim]
    if not tensor_type.elem_type or not tensor_type.HasField("shape") or any(dim is None for dim in dims):
        return None
    return _bytes(tensor_type.elem_type, [dim for dim in dims if dim is not None])


def _bytes(element: int, dims: Any) -> int:
    """Bytes of a tensor; an element kind that this onnx does not know counts as 4."""
    from onnx import helper

    try:
        width = int(helper.tensor_dtype_to_np_dtype(element).itemsize)
    except (KeyError, TypeError, ValueError):
        width = 4
    return math.prod(max(0, int(dim)) for dim in dims) * max(1, width)
