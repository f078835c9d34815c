"""Images are answered by an engine on the board, through a stub of trtexec that runs the very file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecr.core.errors import DeviceFailed
from edgecr.predictors import predictor_for
from edgecr.runners.agent.answers import BoardPredictor
from edgecr.runners.base import answers_itself, runner_for
from tests.runners.jetson import PretendedJetson, make_stale, write_artifact

PREPROCESSING = {"mean": [0.5, 0.4, 0.6], "std": [0.2, 0.3, 0.25], "size": [8, 8], "embedded": False}
IMAGES = np.random.default_rng(0).integers(0, 256, (19, 8, 8, 3), dtype=np.uint8)


@dataclass(frozen=True)
class ExportedForTensorRt:
    """The part of a manifest that a board needs."""

    path: Path
    format: str = "tensorrt"
    beside: tuple[str, ...] = ("build.json",)
    input: dict[str, Any] = field(default_factory=lambda: {"name": "x", "shape": [None, 3, 8, 8]})
    outputs: list[dict[str, Any]] = field(default_factory=lambda: [{"name": "y", "shape": [None, 4, 1, 1]}])
    preprocessing: dict[str, Any] = field(default_factory=lambda: dict(PREPROCESSING))


@pytest.fixture
def jetson(tmp_path: Path) -> PretendedJetson:
    return PretendedJetson(tmp_path / "board")


def board(jetson: PretendedJetson, exported: ExportedForTensorRt, **env: str) -> BoardPredictor:
    runner = runner_for(jetson.device(env=env))
    return BoardPredictor(runner, exported, "tensorrt", pauses_s=())


def test_an_engine_answers_as_its_file_in_batches_that_it_is_built_for(jetson, tmp_path: Path) -> None:
    exported = ExportedForTensorRt(write_artifact(tmp_path / "a"))
    with board(jetson, exported) as predictor:
        given = predictor.predict(IMAGES)  # 19 of them, 16 at once at most
        told = predictor.info
    expected = predictor_for(exported).predict(IMAGES)
    assert given.keys() == expected.keys()
    np.testing.assert_allclose(given["y"], expected["y"], rtol=1e-4, atol=1e-6)
    assert told == {"runtime": "tensorrt", "version": "10.3.0", "asked_by": "trtexec"}
    assert list(jetson.work.iterdir()) == []


def test_the_engine_that_was_timed_is_the_one_that_answers(jetson, tmp_path: Path) -> None:
    exported = ExportedForTensorRt(write_artifact(tmp_path / "a"))
    for _ in range(2):
        with board(jetson, exported) as predictor:
            predictor.predict(IMAGES[:1])
    engines = [
        path for path in (jetson.kept / "edgecr-board" / "engines").iterdir() if path.read_bytes()[:4] == b"STUB"
    ]
    assert len(engines) == 1


def test_an_engine_that_does_not_load_any_more_is_built_anew(jetson, tmp_path: Path) -> None:
    exported = ExportedForTensorRt(write_artifact(tmp_path / "a"))
    with board(jetson, exported) as predictor:
        expected = predictor.predict(IMAGES[:1])
    make_stale(jetson)
    with board(jetson, exported) as predictor:
        np.testing.assert_array_equal(predictor.predict(IMAGES[:1])["y"], expected["y"])


def test_an_engine_that_cannot_answer_says_why(jetson, tmp_path: Path) -> None:
    exported = ExportedForTensorRt(write_artifact(tmp_path / "a"))
    with board(jetson, exported, STUB_MODE="other driver") as predictor, pytest.raises(DeviceFailed) as told:
        predictor.predict(IMAGES[:2])
    assert "trtexec could not answer (code 1): " in str(told.value)
    assert "not compatible with this version" in str(told.value)


def test_a_board_is_asked_and_this_machine_is_not(jetson) -> None:
    transport = {"kind": "ssh", "host": "orin"}
    assert answers_itself(jetson.device(transport=transport), ("tensorrt",))
    assert not answers_itself(jetson.device(), ("tensorrt",))
