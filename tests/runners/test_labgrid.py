"""Places of a real labgrid on this machine: acquired for a session, shared by those of one process, and released."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgecr.core.errors import DeviceFailed
from edgecr.runners.base import MeasurePlan, runner_for
from edgecr.runners.labgrid import LabgridRunner, service
from tests.runners.loopback import Board, free_port
from tests.runners.tiny_device import quick_device

TOOLS = Path(sys.executable).parent


class Lab:
    """A coordinator and an exporter of one board, which is this machine."""

    def __init__(self, folder: Path, board: Board) -> None:
        self.address, self.folder, self.board = f"127.0.0.1:{free_port()}", folder, board
        (folder / "exported.yaml").write_text(
            f"desk:\n  NetworkService:\n    address: 127.0.0.1\n    port: {board.port}\n"
            f"    username: {getpass.getuser()}\n"
        )
        self.processes: list[subprocess.Popen[bytes]] = []

    def open(self) -> None:
        self.processes.append(self.started("coordinator", "-l", self.address))
        self.wait("places")
        self.processes.append(
            self.started("exporter", "-c", self.address, "-n", "shelf", str(self.folder / "exported.yaml"))
        )
        self.wait("resources", "shelf/desk/NetworkService")
        for arguments in (["create"], ["set-tags", "board=pretend"], ["add-match", "shelf/desk/NetworkService"]):
            self.ask("-p", "pretend-1", *arguments)

    def started(self, tool: str, *arguments: str) -> subprocess.Popen[bytes]:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen([TOOLS / f"labgrid-{tool}", *arguments], cwd=self.folder, **quiet)

    def ask(self, *arguments: str) -> str:
        command = [TOOLS / "labgrid-client", "-x", self.address, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def wait(self, command: str, expected: str = "") -> None:
        end = time.monotonic() + 60
        while True:
            try:
                if expected in self.ask(command):
                    return
            except subprocess.CalledProcessError:
                pass
            assert time.monotonic() < end, f"labgrid's {command} never had {expected!r}"
            time.sleep(0.2)

    def holder(self) -> str:
        return next(line for line in self.ask("-p", "pretend-1", "show").splitlines() if "acquired: " in line)

    def runner(self, known: str = "known", **transport) -> LabgridRunner:
        own = self.board.transport(known=known)
        config = Path(own["ssh_options"][1])
        config.write_text(config.read_text().replace("Host board\n HostName 127.0.0.1\n", "Host 127.0.0.1\n"))
        settings = {"kind": "labgrid", "coordinator": self.address}
        settings |= {key: own[key] for key in ("python", "env", "ssh_options")}
        runner = runner_for(quick_device(transport=settings | transport))
        assert isinstance(runner, LabgridRunner)
        return runner


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, board: Board) -> Iterator[Lab]:
    if not (TOOLS / "labgrid-coordinator").exists():
        pytest.skip("labgrid is not installed")
    before, made = os.environ["PATH"], Lab(tmp_path_factory.mktemp("lab"), board)
    os.environ["PATH"] = f"{TOOLS}{os.pathsep}{before}"
    try:
        made.open()
        yield made
    finally:
        os.environ["PATH"] = before
        for process in made.processes:
            process.terminate()
            process.wait()


def test_a_place_is_held_for_a_session_and_released_after_it(lab: Lab) -> None:
    assert lab.holder().endswith("None")
    with lab.runner(place="pretend-1").connect() as agent:
        assert agent.ask("probe")["facts"]["cores"] >= 1
        assert lab.holder().endswith(getpass.getuser())
    assert lab.holder().endswith("None")


def test_a_place_is_found_by_its_tags_and_shared_by_sessions_of_one_process(lab: Lab) -> None:
    asked = {"tags": {"board": "pretend"}}
    with lab.runner(**asked).connect(shared=True):
        with lab.runner(**asked).connect(shared=True) as second:
            assert second.ask("probe")["facts"]
        assert lab.holder().endswith(getpass.getuser())
    assert lab.holder().endswith("None")
    assert lab.ask("reservations") == ""


def test_a_whole_measurement_of_a_place(lab: Lab, models) -> None:
    found = lab.runner(place="pretend-1").measure(MeasurePlan.of(models, [1], launches=1))
    assert found.error is None
    assert len(found.launches[0].rounds) == 6
    assert lab.holder().endswith("None")


def test_a_place_that_is_taken_or_unknown_is_told_in_labgrids_words(lab: Lab, models) -> None:
    found = lab.runner(place="nowhere").measure(MeasurePlan.of(models, [1]))
    assert "labgrid refused '-p nowhere acquire': place pattern nowhere matches nothing" in (found.error or "")
    lab.ask("-p", "pretend-1", "acquire")
    try:
        with pytest.raises(DeviceFailed, match="labgrid refused '-p pretend-1 acquire': You have already acquired"):
            lab.runner(place="pretend-1").connect()
        assert not lab.holder().endswith("None"), "what somebody else acquired stays acquired"
    finally:
        lab.ask("-p", "pretend-1", "release")


def test_a_host_key_that_nobody_trusted_is_refused_and_the_place_released(lab: Lab) -> None:
    with pytest.raises(DeviceFailed, match="is not in your known_hosts"):
        lab.runner("unknown", place="pretend-1").connect()
    assert lab.holder().endswith("None")


SHOWN = "Acquired resource 'x' (a/b/NetworkService/x):\n  "


@pytest.mark.parametrize(
    "text",
    [
        "",
        SHOWN + "not data\n",
        SHOWN + "{'params': {'address': '-oProxyCommand=x', 'port': 1, 'username': 'u'}}\n",
        SHOWN + "{'params': {'address': 'h', 'port': 1, 'username': '-x'}}\n",
        SHOWN + "{'params': {'address': 'h', 'port': '1 2', 'username': 'u'}}\n",
        SHOWN + "[" * 5000 + "\n",
    ],
)
def test_what_labgrid_tells_is_checked_before_ssh_sees_it(text: str) -> None:
    with pytest.raises(DeviceFailed, match="NetworkService"):
        service(text)


def test_the_parameters_of_a_service_are_read_from_what_labgrid_shows() -> None:
    text = (
        "Place 'orin':\n  acquired: lab/alice\n"
        "Acquired resource 'NetworkService' (exp/desk/NetworkService/NetworkService):\n"
        "  {'acquired': 'orin',\n   'avail': True,\n   'cls': 'NetworkService',\n"
        "   'params': {'address': '10.0.0.7',\n              'extra': {'proxy_required': False},\n"
        "              'port': 22,\n              'username': 'ubuntu'}}\n"
    )
    assert service(text) == {"address": "10.0.0.7", "port": 22, "username": "ubuntu"}
