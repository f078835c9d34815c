"""Fewer bits in a file's place: the values that float16 cannot hold, under the names that rounding gives them."""

from __future__ import annotations

import onnx
import pytest
import torch
from onnx import TensorProto
from torch import nn

from tests.exporters.tiny_subjects import LABELS, export, subject_of

HUGE = 1e5


class Loud(nn.Module):
    """Activations beyond float16 between the first two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3)
        self.head = nn.Linear(8, len(LABELS))
        with torch.no_grad():
            self.first.weight *= HUGE
            self.second.weight /= HUGE

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.second(torch.relu(self.first(x))))
        return self.head(torch.relu(self.third(x)).mean((2, 3)))


def test_layers_with_rounded_values_beyond_float16_stay_float32_and_are_named(tmp_path):
    torch.manual_seed(0)
    options = {"format": "tensorrt", "jetpack": 6, "precision": "int8", "quantise": {"calibrator": "minmax"}}
    artifact = export(subject_of(Loud(), untouched=Loud), tmp_path, calibration=4, **options)
    model = onnx.load(artifact.path)
    graph = onnx.shape_inference.infer_shapes(model).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)}
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    read = [{types[name] for name in node.input[:2]} for node in layers]
    assert read == [{TensorProto.FLOAT}, {TensorProto.FLOAT}, {TensorProto.FLOAT16}, {TensorProto.FLOAT16}]
    told = " ".join(artifact.lineage["rounding"]["float32"])
    assert [f"layer {name} has" in told for name in ("first", "second", "third")] == [True, True, False]
    assert artifact.receipt["integers"]["share"] == pytest.approx(1.0)
