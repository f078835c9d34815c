"""A small pruned network that torch traces once for each set of options, however many targets are written from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from edgecr.exporters import Artifact, exporters, parse_target
from edgecr.exporters.onnx import write as onnx_write
from tests.exporters.tiny_subjects import LABELS, Promising, proof, subject_of

SIZE = 16


class Mixed(nn.Module):
    """A residual block with a depthwise convolution, and activations that old opsets lack."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.first = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.second = nn.Conv2d(width, width, 3, 1, 1)
        self.depth = nn.Conv2d(width, width, 3, 1, 1, groups=width)
        self.act = nn.Hardswish()
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, len(LABELS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = torch.relu(x + self.second(self.first(x)))
        return self.head(self.norm(self.act(self.depth(x)).mean((2, 3))))


@pytest.fixture(scope="session")
def slim() -> Promising:
    """The network with half of its channels, as a surgery promised it."""
    torch.manual_seed(0)
    module = Mixed(8)
    return subject_of(module, cut=True, size=SIZE, untouched=Mixed, promised=lambda: Mixed(8))


@pytest.fixture(scope="session")
def traced(slim: Promising) -> dict[tuple[object, ...], onnx.ModelProto]:
    """The files that torch has written of the network so far."""
    return {}


@pytest.fixture
def export(slim, traced, monkeypatch) -> Callable[..., Artifact]:
    """Writes and proves the network for a target."""
    trace = onnx_write._traced

    def once(module, example, target, task):
        key = (max(target.opset, onnx_write.LOWEST), target.dynamic_batch, target.embed_preprocessing)
        if key not in traced:
            traced[key] = trace(module, example, target, task)
        copied = onnx.ModelProto()
        copied.CopyFrom(traced[key])
        return copied

    monkeypatch.setattr(onnx_write, "_traced", once)

    def export(target, folder: Path) -> Artifact:
        return exporters.get("tensorrt")().export(slim, target, proof(7, SIZE, calibration=32), folder, {"run": "test"})

    return export


def target(jetpack: int = 6, **options: object):
    """A target with everything that does not matter filled in."""
    return parse_target({"name": "t", "purpose": "a test", "format": "tensorrt", "jetpack": jetpack} | options)
