"""A board of another processor: an emulated 64-bit ARM machine behind a real SSH server. Its times mean nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgecr.runners.agent.answers import BoardPredictor
from edgecr.runners.base import MeasurePlan
from tests.runners.agent.test_answers import IMAGES, ShippedFile, here
from tests.runners.loopback import Board, loopback
from tests.runners.tiny_device import write_onnx

PLACE = "EDGECR_ARM64_BOARD"


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    if not (Path(os.environ.get(PLACE, "")) / "bin" / "python3").is_file():
        pytest.skip(f"no emulated ARM board (bash tests/runners/arm64_board.sh DIR, then {PLACE}=DIR)")
    with loopback(tmp_path_factory.mktemp("arm")) as board:
        yield board


def python() -> str:
    return str(Path(os.environ[PLACE]).resolve() / "bin" / "python3")


def test_the_whole_protocol_runs_on_an_arm_processor_and_leaves_nothing(arm: Board, models, tmp_path) -> None:
    env = {"TMPDIR": str(tmp_path / "board"), "EDGECR_BOARD_LOCK": str(tmp_path / "lock")}
    (tmp_path / "board").mkdir()
    found = arm.runner(python=python(), env=env).measure(MeasurePlan.of(models, [1], launches=1))
    assert found.error is None
    assert found.facts["machine"] == "aarch64"
    assert {(one.arm, one.number) for one in found.launches[0].rounds} == {(a, n) for a in (0, 1) for n in range(3)}
    assert found.alone[0].start.info["runtime"] == "onnxruntime"
    assert list((tmp_path / "board").iterdir()) == []


def test_answers_of_an_arm_processor_are_those_of_this_one(arm: Board, tmp_path) -> None:
    shipped = ShippedFile(write_onnx(tmp_path / "model.onnx", 8))
    expected = here(shipped)
    with BoardPredictor(arm.runner(python=python()), shipped, "ort") as predictor:
        found = predictor.predict(IMAGES)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert np.allclose(found[name], values, rtol=1e-5, atol=1e-6)
