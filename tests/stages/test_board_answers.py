"""A recipe that measures on this machine and on a board: each is judged on its own answers."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from edgecr.core.progress import Monitor
from edgecr.pipeline import compress
from edgecr.recipe import load_recipe
from edgecr.report.result import BASELINE, CANDIDATE, Result, Status, Verdict
from edgecr.report.tables import accuracy_tables
from edgecr.robustness.result import RobustnessResult
from edgecr.run import Run
from edgecr.runners.agent import protocol
from edgecr.runners.agent.archive import agent_archive
from edgecr.runners.ssh import SshRunner
from edgecr.stages.judge import judged
from edgecr.training.context import Execution
from tests.conftest import QUICK_DEVICE, SMALL, written
from tests.runners.loopback import Board, loopback
from tests.workplace import trusted

TARGETS = ("onnx", "onnx-embedded")
WRONG = (
    "        return dict(zip(names, found))",
    "        return {name: -values for name, values in zip(names, found)}",
)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    with loopback(tmp_path_factory.mktemp("board")) as board:
        yield board


def recipe(folder: Path, board: Board, targets: str = "onnx, onnx-embedded") -> Path:
    """A recipe with two devices: this machine, and the board."""
    device = yaml.safe_load(QUICK_DEVICE) | {"name": "orin", "transport": board.transport()}
    (folder / "orin.yaml").write_text(yaml.safe_dump(device))
    trusted(folder / "orin.yaml")
    text = SMALL.replace("[DEVICE]", f"[DEVICE, {folder / 'orin.yaml'}]").replace("batch: [1, 2]", "batch: [1]")
    return written(folder, "boards.yaml", text.replace("export: [onnx]", f"export: [{targets}]"))


def run_it(file: Path) -> tuple[Run, Result]:
    return compress(load_recipe(str(file)), "tests", file.parent / "runs", Execution(), Monitor())


@pytest.fixture(scope="module")
def done(board: Board, tmp_path_factory: pytest.TempPathFactory, config_folder) -> tuple[Run, Result, Path]:
    file = recipe(tmp_path_factory.mktemp("boards"), board)
    return (*run_it(file), file)


def test_every_target_is_judged_on_every_device_by_its_own_answers(done: tuple[Run, Result, Path]) -> None:
    run, result, _ = done
    assert result.verdict is Verdict.SHIP, result.warnings
    assert [(row.target, row.device, row.verdict) for row in result.candidates] == [
        (target, device, Verdict.SHIP) for device in ("orin", "quick") for target in TARGETS
    ]
    for target in TARGETS:
        here = RobustnessResult.load(run.robustness("noise5", target))
        there = RobustnessResult.load(run.robustness("noise5", target, "orin"))
        assert not here.answered_by
        assert there.answered_by["device"]["name"] == "orin"
        assert {runtime for runtime, version in there.answered_by["runtimes"].values() if version} == {"ort"}
        parity = json.loads((run.robustness("noise5", target, "orin") / "board.json").read_text())["parity"]
        assert {role: found["agreement"] for role, found in parity.items()} == {BASELINE: 1.0, CANDIDATE: 1.0}
        assert all(0 <= found["max_rel"] < 1e-4 for found in parity.values())


def test_the_tables_name_the_board_that_answered(done: tuple[Run, Result, Path]) -> None:
    titles = [table.title for table in accuracy_tables(done[1])]
    assert titles == [f"Accuracy, suite noise5, {target}{where}" for target in TARGETS for where in ("", " on orin")]
    assert set(titles) <= {table.title for table in accuracy_tables(Result.parse(done[1].plain()))}
    page = (done[0].folder / "report.html").read_text()
    assert page.count("Accuracy under noise5") == len(titles)


def test_a_finished_run_needs_no_board(done: tuple[Run, Result, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SshRunner, "connect", lambda _: pytest.fail("the board was asked again"))
    assert run_it(done[2])[1].plain() == done[1].plain()


def test_damaged_answers_of_the_board_leave_the_other_device_unharmed(
    done: tuple[Run, Result, Path], tmp_path: Path
) -> None:
    run = Run(tmp_path / done[0].folder.name)
    shutil.copytree(done[0].folder, run.folder)
    (run.robustness("noise5", "onnx", "orin") / "clean.npz").write_bytes(b"")
    verdicts = {(row.target, row.device): row.verdict for row in judged(run).candidates}
    assert [place for place, verdict in verdicts.items() if verdict is not Verdict.SHIP] == [("onnx", "orin")]


def test_answers_of_another_device_are_not_the_boards(done: tuple[Run, Result, Path], tmp_path: Path) -> None:
    run = Run(tmp_path / done[0].folder.name)
    shutil.copytree(done[0].folder, run.folder)
    here, there = run.robustness("noise5", "onnx"), run.robustness("noise5", "onnx", "orin")
    for file in here.iterdir():
        shutil.copy(file, there)
    told = json.loads(run.stage("robustness-noise5@onnx").read_text())
    run.finish("robustness-noise5@onnx@orin", told["key"], [there])
    (row,) = (row for row in judged(run).candidates if (row.target, row.device) == ("onnx", "orin"))
    assert row.verdict is Verdict.INCOMPLETE
    assert any("is not what orin answered" in why for why in row.why)


def crooked() -> bytes:
    """An agent whose runtime computes every output wrongly."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(agent_archive())) as sound, zipfile.ZipFile(buffer, "w") as made:
        for name in sound.namelist():
            text = sound.read(name).decode()
            made.writestr(name, text.replace(*WRONG) if name.endswith("ort.py") else text)
    return buffer.getvalue()


def test_a_board_that_computes_wrongly_is_found_before_its_answers_count(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = recipe(tmp_path, board, "onnx")
    with pytest.MonkeyPatch.context() as wrong:
        wrong.setattr(protocol, "agent_archive", crooked)
        run, result = run_it(file)
    assert result.verdict is Verdict.INCOMPLETE
    assert not (run.robustness("noise5", "onnx", "orin") / "clean.npz").exists()
    (gate,) = (gate for gate in result.gates if gate.name == "clean_accuracy")
    assert gate.status is Status.INCOMPLETE
    assert "On orin the baseline (model.onnx) does not answer as PyTorch did: outputs differ by up to" in gate.text
    assert all(gate.status is Status.PASS for gate in result.gates if "accuracy" not in gate.name)
    assert run_it(file)[1].verdict is Verdict.SHIP, "a board that computes rightly now is asked again"


def test_an_unreachable_board_makes_its_gates_incomplete(
    done: tuple[Run, Result, Path], tmp_path: Path, board: Board
) -> None:
    file = recipe(tmp_path, board, "onnx")
    device = yaml.safe_load((tmp_path / "orin.yaml").read_text())
    device["transport"]["host"] = "no-such-board.invalid"
    (tmp_path / "orin.yaml").write_text(yaml.safe_dump(device))
    trusted(tmp_path / "orin.yaml")
    _, result = run_it(file)
    assert result.verdict is Verdict.INCOMPLETE
    (gate,) = (gate for gate in result.gates if gate.name == "noise5_accuracy")
    assert "Board 'no-such-board.invalid' cannot be reached" in gate.text
