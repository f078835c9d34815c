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
from edgecr.recipe.inputs import code_hashes, input_hashes
from edgecr.report.result import BASELINE, CANDIDATE, Result, Status, Verdict
from edgecr.report.tables import accuracy_tables, tables
from edgecr.robustness.result import RobustnessResult
from edgecr.run import Run, identity
from edgecr.runners.agent import protocol
from edgecr.runners.agent.archive import agent_archive
from edgecr.runners.agent.protocol import Connection
from edgecr.runners.ssh import SshRunner
from edgecr.stages.judge import judged
from edgecr.training.context import Execution
from tests.conftest import QUICK_DEVICE, SMALL
from tests.runners.loopback import Board, loopback
from tests.runners.processes import kill_workers
from tests.workplace import trusted

WRONG = (
    "        return dict(zip(names, found))",
    "        return {name: -values for name, values in zip(names, found)}",
)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    with loopback(tmp_path_factory.mktemp("board")) as board:
        yield board


QUICKEST = {"launches": 1, "rounds": 1, "round_s": 0.005, "warmup": {"window_s": 0.002, "max_s": 0.1}}


def recipe(folder: Path, board: Board) -> Path:
    """A recipe with two devices: this machine, and the board."""
    device = yaml.safe_load(QUICK_DEVICE) | {"protocol": QUICKEST}
    for each in (device, device | {"name": "orin", "transport": board.transport()}):
        (folder / f"{each['name']}.yaml").write_text(yaml.safe_dump(each))
        trusted(folder / f"{each['name']}.yaml")
    devices = f"[{folder / 'quick.yaml'}, {folder / 'orin.yaml'}]"
    (folder / "boards.yaml").write_text(SMALL.replace("[DEVICE]", devices).replace("batch: [1, 2]", "batch: [1]"))
    return folder / "boards.yaml"


def run_it(file: Path, root: Path) -> tuple[Run, Result]:
    return compress(load_recipe(str(file)), "tests", root, Execution(), Monitor())


@pytest.fixture(scope="module")
def done(
    board: Board, tmp_path_factory: pytest.TempPathFactory, config_folder, small_run: Path
) -> tuple[Run, Result, Path]:
    """The small run, gone on with as that of a recipe which differs from its own in the devices only."""
    file = recipe(tmp_path_factory.mktemp("boards"), board)
    asked, execution = load_recipe(str(file)), Execution()
    inputs, code = input_hashes(asked.model, *asked.steps), code_hashes(asked, execution)
    name = f"small-{identity(asked.canonical(), asked.data.load().fingerprint, inputs, code)[:8]}"
    shutil.copytree(small_run, file.parent / "runs" / name)
    run, result = run_it(file, file.parent / "runs")
    assert run.folder.name == name, "the steps and exports of the other run were taken over"
    return run, result, file


@pytest.fixture
def copied(done: tuple[Run, Result, Path], tmp_path: Path) -> Run:
    """A copy of the finished run."""
    shutil.copytree(done[0].folder, tmp_path / done[0].folder.name)
    return Run(tmp_path / done[0].folder.name)


@pytest.fixture
def unasked(copied: Run) -> Run:
    """The run before the board was asked about images."""
    shutil.rmtree(copied.robustness("noise5", "onnx", "orin"))
    copied.stage("robustness-noise5@onnx@orin").unlink()
    return copied


def test_the_target_is_judged_on_every_device_by_its_own_answers(done: tuple[Run, Result, Path]) -> None:
    run, result, _ = done
    assert result.verdict is Verdict.SHIP, result.warnings
    assert {row.device: row.verdict for row in result.candidates} == dict.fromkeys(("quick", "orin"), Verdict.SHIP)
    here = RobustnessResult.load(run.robustness("noise5", "onnx"))
    there = RobustnessResult.load(run.robustness("noise5", "onnx", "orin"))
    assert not here.answered_by
    assert there.answered_by["device"]["name"] == "orin"
    assert {runtime for runtime, version in there.answered_by["runtimes"].values() if version} == {"ort"}
    assert there.key != here.key
    parity = json.loads((run.robustness("noise5", "onnx", "orin") / "board.json").read_text())["parity"]
    assert {role: found["agreement"] for role, found in parity.items()} == {BASELINE: 1.0, CANDIDATE: 1.0}
    assert all(0 <= found["max_rel"] < 1e-4 for found in parity.values())


def test_the_tables_name_the_board_that_answered(done: tuple[Run, Result, Path]) -> None:
    titles = [table.title for table in accuracy_tables(done[1])]
    assert titles == ["Accuracy, suite noise5", "Accuracy, suite noise5, orin"]
    (table,) = (table for table in tables(done[1]) if table.title == "Boards that answered")
    assert [row[:2] for row in table.rows] == [("orin", BASELINE), ("orin", CANDIDATE)]
    assert all(row[2].startswith("ort 1.") and "same class 100" in row[3] for row in table.rows), table.rows
    page = (done[0].folder / "report.html").read_text()
    assert page.count("Accuracy under noise5") == len(titles)


def test_a_finished_run_needs_no_board(done: tuple[Run, Result, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SshRunner, "connect", lambda _: pytest.fail("the board was asked again"))
    assert run_it(done[2], done[0].folder.parent)[1].plain() == done[1].plain()


def verdicts(result: Result) -> dict[str, Verdict]:
    return {row.device: row.verdict for row in result.candidates}


def test_damaged_answers_of_the_board_leave_the_other_device_unharmed(copied: Run) -> None:
    (copied.robustness("noise5", "onnx", "orin") / "clean.npz").write_bytes(b"")
    assert verdicts(judged(copied)) == {"quick": Verdict.SHIP, "orin": Verdict.INCOMPLETE}


def test_a_record_of_the_board_that_cannot_be_read_is_no_evidence(copied: Run) -> None:
    there, stage = copied.robustness("noise5", "onnx", "orin"), "robustness-noise5@onnx@orin"
    (there / "board.json").write_text('{"answered_by": {"device": {}, "runtimes": {"baseline": "ort"}}, "parity": {}}')
    copied.finish(stage, json.loads(copied.stage(stage).read_text())["key"], [there])
    result = judged(copied)
    assert verdicts(result) == {"quick": Verdict.SHIP, "orin": Verdict.INCOMPLETE}
    assert not result.answerers


def test_answers_of_this_machine_are_not_the_boards(copied: Run) -> None:
    here, there = copied.robustness("noise5", "onnx"), copied.robustness("noise5", "onnx", "orin")
    for file in here.iterdir():
        shutil.copy(file, there)
    told = json.loads(copied.stage("robustness-noise5@onnx").read_text())
    copied.finish("robustness-noise5@onnx@orin", told["key"], [there])
    result = judged(copied)
    assert verdicts(result) == {"quick": Verdict.SHIP, "orin": Verdict.INCOMPLETE}
    assert any("is not what orin answered" in problem for problem in result.unverified.values())


def crooked() -> bytes:
    """An agent whose runtime computes every output wrongly."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(agent_archive())) as sound, zipfile.ZipFile(buffer, "w") as made:
        for name in sound.namelist():
            text = sound.read(name).decode()
            made.writestr(name, text.replace(*WRONG) if name.endswith("ort.py") else text)
    return buffer.getvalue()


def test_a_board_that_computes_wrongly_is_found_before_its_answers_count(
    done: tuple[Run, Result, Path], unasked: Run
) -> None:
    file, root = done[2], unasked.folder.parent
    with pytest.MonkeyPatch.context() as wrong:
        wrong.setattr(protocol, "agent_archive", crooked)
        _, result = run_it(file, root)
    assert verdicts(result) == {"quick": Verdict.SHIP, "orin": Verdict.INCOMPLETE}
    assert result.verdict is Verdict.INCOMPLETE
    assert not (unasked.robustness("noise5", "onnx", "orin") / "clean.npz").exists()
    (gate,) = (gate for gate in result.gates if gate.name == "clean_accuracy")
    assert "On orin the baseline (model.onnx) does not answer as PyTorch did: outputs differ by up to" in gate.text
    assert all(gate.status is Status.PASS for gate in result.gates if "accuracy" not in gate.name)
    assert any(text.startswith("orin: On orin the baseline") for text in result.warnings)
    assert run_it(file, root)[1].verdict is Verdict.SHIP, "a board that computes rightly now is asked again"


def test_a_board_that_cannot_be_reached_makes_its_gates_incomplete(
    done: tuple[Run, Result, Path], unasked: Run, board: Board
) -> None:
    board.stop()
    try:
        _, result = run_it(done[2], unasked.folder.parent)
    finally:
        board.start()
        assert board.wait()
    (gate,) = (gate for gate in result.gates if gate.name == "noise5_accuracy")
    assert gate.status is Status.INCOMPLETE
    assert "Board 'board' cannot be reached: ssh: connect to host 127.0.0.1" in gate.text


def test_an_interrupted_suite_goes_on_to_the_same_answers(
    done: tuple[Run, Result, Path], unasked: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, answers = Connection.put_content, unasked.robustness("noise5", "onnx", "orin")

    def send(self: Connection, content: bytes, name: str) -> None:
        if (answers / "clean.npz").exists():
            kill_workers(self.pid)
        original(self, content, name)

    with monkeypatch.context() as crash:
        crash.setattr(Connection, "put_content", send)
        _, result = run_it(done[2], unasked.folder.parent)
    assert result.verdict is Verdict.INCOMPLETE
    assert "The answers under 1 of 6 conditions are kept; the same command goes on." in result.warnings[-1]
    written = (answers / "clean.npz").stat().st_mtime_ns
    assert run_it(done[2], unasked.folder.parent)[1].verdict is Verdict.SHIP
    assert (answers / "clean.npz").stat().st_mtime_ns == written
    for file in done[0].robustness("noise5", "onnx", "orin").glob("*.npz"):
        assert (answers / file.name).read_bytes() == file.read_bytes(), file.name
