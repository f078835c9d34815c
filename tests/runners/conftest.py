from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgecr.runners.base import Device
from tests.runners.loopback import Board, loopback
from tests.runners.tiny_device import quick_device, write_onnx


@pytest.fixture
def models(tmp_path: Path) -> dict[str, Path]:
    return {"baseline": write_onnx(tmp_path / "a.onnx", 8), "candidate": write_onnx(tmp_path / "b.onnx", 4)}


@pytest.fixture
def quick() -> Device:
    return quick_device()


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    with loopback(tmp_path_factory.mktemp("board")) as found:
        yield found
