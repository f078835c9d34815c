"""Writing a subject as one clean ONNX file, without a word on the terminal."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from edgecr.core.errors import ExportRefused, UnsupportedModel
from edgecr.data.base import Preprocessing
from edgecr.exporters.base import Written
from edgecr.exporters.onnx.declaration import OnnxTarget
from edgecr.exporters.onnx.opset import lowered
from edgecr.predictors.onnx_file import describe_onnx, opset_of
from edgecr.subject import Subject
from edgecr.tasks import CLASSIFICATION, Task

LOWEST = 18
"""The lowest opset that torch's exporter emits; asked for a lower one it silently emits this one."""
_LARGEST = 2_000_000_000
"""Bytes of weights in one file: protobuf ends at 2 GiB."""
_MATRIX = 2
"""Axes of the weight of a linear layer."""


class _WithPreprocessing(nn.Module):
    """uint8 NHWC images in: scaling and normalisation stand before the model."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, module: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.module = module
        self.register_buffer("mean", torch.tensor(preprocessing.mean))
        self.register_buffer("std", torch.tensor(preprocessing.std))

    def forward(self, images: torch.Tensor) -> Any:
        """The same arithmetic in the same order as ``Preprocessing.apply``."""
        return self.module(((images.to(torch.float32) / 255 - self.mean) / self.std).permute(0, 3, 1, 2))


class _InOrder(nn.Module):
    """The task's outputs as a tuple in the order of their names, whatever the module returns."""

    def __init__(self, module: nn.Module, task: Task) -> None:
        super().__init__()
        self.module, self.task = module, task

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Every named output."""
        return tuple(self.task.outputs_of(self.module(images)).values())


def write(
    subject: Subject,
    target: OnnxTarget,
    preprocessing: Preprocessing,
    file: Path,
    task: Task = CLASSIFICATION,
    without: Collection[str] = (),
) -> Written:
    """Writes and checks the file, ``without`` some operators; the caller proves its numbers."""
    module = copy.deepcopy(subject.module).eval().cpu().float()
    _refuse_too_large(module)
    if len(task.outputs) > 1:
        module = _InOrder(module, task).eval()
    channels, height, width = subject.input_shape
    if target.embed_preprocessing:
        module = _WithPreprocessing(module, preprocessing).eval()
        example = torch.zeros(2, height, width, channels, dtype=torch.uint8)
    else:
        example = torch.zeros(2, channels, height, width)
    model = cleaned(_traced(module, example if target.dynamic_batch else example[:1], target, task))
    _name_turned_weights(model, module)
    _make_zeros_positive(model)
    if target.opset < LOWEST or without:
        model = lowered(model, min(target.opset, opset_of(model)), without)
    check(model, target)
    file.write_bytes(model.SerializeToString(deterministic=True))
    described = describe_onnx(file)
    layout = {"layout": "NHWC" if target.embed_preprocessing else "NCHW"}
    made_with = {
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "opset": described.opset,
        "ir_version": described.ir_version,
    }
    return Written(file.name, described.inputs[0] | layout, described.outputs, made_with, target.embed_preprocessing)


def _traced(module: nn.Module, example: torch.Tensor, target: OnnxTarget, task: Task) -> onnx.ModelProto:
    batch = {0: torch.export.Dim("batch", min=1, max=4096)} if target.dynamic_batch else None
    try:
        with silence():
            program = torch.onnx.export(
                module,
                (example.contiguous(),),
                input_names=["input"],
                output_names=list(task.outputs),
                opset_version=max(target.opset, LOWEST),
                dynamic_shapes=(batch,),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        raise UnsupportedModel(f"torch cannot export this model to ONNX: {_root(error)}") from error
    if program is None:
        raise UnsupportedModel("torch gave no ONNX program for this model.")
    model: onnx.ModelProto = program.model_proto
    return model


def cleaned(model: onnx.ModelProto) -> onnx.ModelProto:
    """Takes out all notes: they hold source paths and stack traces of this machine, and weight up to 6 %."""
    graphs = [model.graph]
    for holder in [model, *model.functions]:
        _strip(holder)
    for function in model.functions:
        _strip_all(function.node, graphs)
    while graphs:
        graph = graphs.pop()
        _strip(graph)
        _strip_all([*graph.input, *graph.output, *graph.value_info, *graph.initializer], graphs)
        _strip_all(graph.node, graphs)
    return model


def _strip_all(items: Any, graphs: list[onnx.GraphProto]) -> None:
    for item in items:
        _strip(item)
        for attribute in getattr(item, "attribute", ()):
            attribute.doc_string = ""
            graphs.extend([attribute.g] if attribute.HasField("g") else attribute.graphs)


def _strip(item: Any) -> None:
    item.ClearField("doc_string")
    item.ClearField("metadata_props")


def _name_turned_weights(model: onnx.ModelProto, module: nn.Module) -> None:
    """Gives weights that the exporter has stored transposed, under numbers of its own, their names in the module.

    Linear layers on more than two axes are such; all uses of one weight read the same tensor then.
    """
    graph = model.graph
    factors = {node.input[1] for node in graph.node if node.op_type == "MatMul"}
    named = {tensor.name for tensor in graph.initializer}
    matrices = {name: value.numpy() for name, value in module.state_dict().items() if value.dim() == _MATRIX}
    free = {name: value for name, value in matrices.items() if name not in named}
    names: dict[str, str] = {}
    for tensor in [each for each in graph.initializer if each.name in factors and each.name not in matrices]:
        turned = onnx.numpy_helper.to_array(tensor).T
        alike = [name for name, value in free.items() if np.array_equal(value, turned)]
        unused = [name for name in alike if name not in names.values()]
        if alike:
            names[tensor.name] = (unused or alike)[0]
        if unused:
            tensor.name = unused[0]
        elif alike:
            graph.initializer.remove(tensor)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]


def _make_zeros_positive(model: onnx.ModelProto) -> None:
    """Gives all zero weights the same bits: masks leave -0.0 where a negative weight was, which is the same number."""
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and tensor.HasField("raw_data"):
            values = onnx.numpy_helper.to_array(tensor)
            if bool((np.signbit(values) & (values == 0)).any()):
                tensor.CopyFrom(onnx.numpy_helper.from_array(values + np.float32(0), tensor.name))


def check(model: onnx.ModelProto, target: OnnxTarget) -> None:
    """ExportRefused for a graph that is not valid, or not what the target asks for."""
    given = opset_of(model)
    if given != target.opset:
        raise ExportRefused(f"Opset {target.opset} was asked for, torch {torch.__version__} wrote opset {given}.")
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportRefused(f"The exported graph is not valid ONNX: {_first_line(error)}") from error
    if target.dynamic_batch and model.graph.input[0].type.tensor_type.shape.dim[0].dim_value:
        raise ExportRefused(
            "The model fixes its own batch size, so it cannot be exported with a dynamic batch; "
            "set `dynamic_batch: false` in the export target."
        )


def _refuse_too_large(module: nn.Module) -> None:
    size = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
    if size > _LARGEST:
        raise UnsupportedModel(f"The model holds {size / 1e9:.1f} GB of weights; one ONNX file holds at most 2 GB.")


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Swallows what torch and its libraries print, warn and log; their errors still come through."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _root(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
