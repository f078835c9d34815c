"""Tiny ONNX files, one layer each: what the agent measures to fill a latency table."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from edgecr.exporters.graph_target import GraphTarget
from edgecr.exporters.onnx.declaration import PLAIN
from edgecr.latency import LayerConfig

OPSET, IR = 13, 8
"""Opset and IR version that the oldest supported boards load."""


def write_layer(config: LayerConfig, path: Path, target: GraphTarget = PLAIN) -> None:
    """A layer with its bias and the activation that runtimes fuse into it, in the precision of a target.

    The values do not matter for the time.
    """
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper

    shapes = {"w": _weight_shape(config), "b": (config.cout,)}
    scale = np.float32(math.sqrt(2 / math.prod(shapes["w"][1:])))
    random = np.random.default_rng(0)
    values = {name: random.standard_normal(shape, dtype=np.float32) * scale for name, shape in shapes.items()}
    floats = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [_node(config), helper.make_node("Relu", ["t"], ["y"])],
        "layer",
        [helper.make_tensor_value_info("x", floats, input_shape(config))],
        [helper.make_tensor_value_info("y", floats, output_shape(config))],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    if target.precision != "fp32":
        from edgecr.latency_builder.rounded_layers import rounded_layer  # loads the runtime's quantiser

        model = rounded_layer(model, target)
    onnx.save(model, path)


def _weight_shape(config: LayerConfig) -> tuple[int, ...]:
    if config.kind == "linear":
        return (config.cout, config.cin)
    return (config.cout, config.cin // config.groups, *config.kernel)


def input_shape(config: LayerConfig) -> list[int]:
    """The shape of the file's input; a linear layer has one row for each position in each image."""
    if config.kind == "linear":
        return [config.batch * config.height, config.cin]
    return [config.batch, config.cin, config.height, config.width]


def output_shape(config: LayerConfig) -> list[int]:
    """The shape of the file's output."""
    spread = [] if config.kind == "linear" else config.out_size
    return [input_shape(config)[0], config.cout, *spread]


def _node(config: LayerConfig) -> Any:
    from onnx import helper

    if config.kind == "linear":
        return helper.make_node("Gemm", ["x", "w", "b"], ["t"], transB=1)
    return helper.make_node(
        "Conv",
        ["x", "w", "b"],
        ["t"],
        kernel_shape=config.kernel,
        strides=config.stride,
        pads=[*config.padding, *config.padding],
        dilations=config.dilation,
        group=config.groups,
    )
