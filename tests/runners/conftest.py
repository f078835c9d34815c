from __future__ import annotations

from pathlib import Path

import pytest

from edgecr.runners.base import Device
from tests.runners.tiny_device import quick_device, write_onnx


@pytest.fixture
def models(tmp_path: Path) -> dict[str, Path]:
    return {"baseline": write_onnx(tmp_path / "a.onnx", 8), "candidate": write_onnx(tmp_path / "b.onnx", 4)}


@pytest.fixture
def quick() -> Device:
    return quick_device()
