"""An engine is asked about the images that its file carries, on the board that built it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from edgecr.core.progress import Monitor
from edgecr.exporters import Artifact, exporters, load_target
from edgecr.report.engine_tables import engine_table
from edgecr.report.latency_rows import latency_rows
from edgecr.report.result import Result
from edgecr.runners.base import Measurement, MeasurePlan, runner_for
from edgecr.stages.engine_proof import proofs
from tests.exporters.tiny_subjects import LABELS, proof, subject_of
from tests.runners.jetson import PretendedJetson

SIZE = 8


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, len(LABELS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.stem(x).mean((2, 3)))


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    torch.manual_seed(0)
    folder, target = tmp_path_factory.mktemp("artifact"), load_target("tensorrt-jetpack6-fp32")
    return exporters.get("tensorrt")().export(
        subject_of(Small(), size=SIZE, untouched=Small, promised=Small), target, proof(7, SIZE), folder, {}
    )


def measured(artifact: Artifact, folder: Path, mode: str = "") -> Measurement:
    device = PretendedJetson(folder).device(
        protocol={"rounds": 1, "throughput": None}, env={"STUB_MODE": mode}, layers=False
    )
    named = {"candidate": artifact}
    models, beside = {"candidate": artifact.path}, {"candidate": artifact.beside}
    plan = MeasurePlan.of(models, (1,), "tensorrt", beside=beside, proofs=proofs(named))
    return runner_for(device).measure(plan, Monitor())


def test_an_engine_that_answers_as_its_file(artifact: Artifact, tmp_path: Path) -> None:
    result = measured(artifact, tmp_path / "board")
    assert result.error is None
    parity = result.engines[0].parity
    assert (parity.images, parity.agreement) == (7, 1.0)
    assert parity.cosine > 0.9999
    (row,) = engine_table(Result("x", "", latency=latency_rows(result))).rows
    assert "100.0 % of 7" in row


def test_an_engine_that_answers_otherwise_is_warned_of(artifact: Artifact, tmp_path: Path) -> None:
    result = measured(artifact, tmp_path / "board", "wrong")
    assert result.engines[0].parity.agreement < 0.995
    assert any("otherwise than its file should: its speed is that of another model" in text for text in result.warnings)


def test_a_file_without_images_is_not_asked(artifact: Artifact) -> None:
    assert proofs({"a": replace(artifact, evidence={}), "b": replace(artifact, format="onnx")}) == {}
