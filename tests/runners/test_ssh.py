from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgecr.core.errors import DeviceFailed
from edgecr.runners.agent.protocol import Ending
from edgecr.runners.base import MeasurePlan, runner_for
from edgecr.runners.ssh import SshRunner
from tests.runners.loopback import Board, free_port, loopback
from tests.runners.tiny_device import quick_device


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    with loopback(tmp_path_factory.mktemp("board")) as board:
        yield board


def test_a_whole_session_over_ssh(board: Board, models) -> None:
    result = board.runner().measure(MeasurePlan.of(models, [1], launches=1))
    assert result.error is None
    assert {one.arm for one in result.launches[0].rounds} == {0, 1}
    assert len(result.alone) == 2


def test_a_login_shell_that_prints_is_tolerated(board: Board) -> None:
    with board.runner(key="noisy").connect() as agent:
        assert agent.ask("probe")["facts"]["cores"] >= 1
        assert agent._noise == ["Welcome to the context"]


def test_the_environment_reaches_the_agent_without_the_shell(board: Board, tmp_path: Path) -> None:
    folder = tmp_path / "it's $HOME"
    folder.mkdir()
    with board.runner(env={"TMPDIR": str(folder)}).connect() as agent:
        assert Path(agent.hello["work"]).parent == folder


def test_a_connection_that_was_opened_by_hand_serves_where_no_key_logs_in(board: Board) -> None:
    runner, control = board.runner(key="stranger"), board.folder / "control"
    config, by_hand = board.folder / "stranger-known.conf", board.folder / "by-hand.conf"
    config.write_text(f"{config.read_text()} ControlPath {control}\n")
    by_hand.write_text(config.read_text().replace("/stranger", "/plain"))  # stands for a password that was typed
    subprocess.run(["ssh", "-fNM", "-F", str(by_hand), "board"], check=True, stderr=subprocess.DEVNULL)
    try:
        with runner.connect() as agent:
            assert agent.hello["pid"]
    finally:
        subprocess.run(["ssh", "-O", "exit", "-F", str(by_hand), "board"], check=True, stderr=subprocess.DEVNULL)


def test_the_agent_goes_when_ssh_is_killed(board: Board) -> None:
    agent = board.runner().connect()
    work = Path(agent.hello["work"])
    agent._process.kill()
    end = time.monotonic() + 10
    while work.exists() and time.monotonic() < end:
        time.sleep(0.02)
    agent.kill()
    assert not work.exists()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"known": "unknown"}, 'remembered: "edgecr devices trust quick --host-key", or connect once with "ssh board"'),
        ({"known": "changed"}, "The host key of 'board' is not the one you trusted"),
        ({"key": "stranger"}, "ssh-copy-id board installs your key, or name a ControlPath"),
        ({"python": "python9"}, "No python9 on the board. Set transport.python in devices/quick.yaml"),
        ({"python": "/etc/passwd"}, "/etc/passwd on the board is not a program that may be run ("),
        ({"python": "/etc"}, "/etc on the board is not a program that may be run ("),
        ({"host": "no-such-board.invalid"}, "Board 'no-such-board.invalid' cannot be reached: "),
    ],
)
def test_failures_are_values_with_a_remedy(board: Board, models, settings, expected) -> None:
    result = board.runner(**settings).measure(MeasurePlan.of(models, [1]))
    assert expected in (result.error or "")
    assert result.launches == ()


def test_a_closed_port_cannot_be_reached(board: Board) -> None:
    options = ["-p", str(free_port()), *board.runner().transport.ssh_options]
    with pytest.raises(DeviceFailed, match=r"cannot be reached: .*refused"):
        board.runner(ssh_options=options).connect()


def test_a_board_that_hangs_up_before_it_greets_was_never_connected(board: Board) -> None:
    with socket.create_server(("127.0.0.1", 0)) as rude:
        threading.Thread(target=lambda: rude.accept()[0].close(), daemon=True).start()
        options = ["-p", str(rude.getsockname()[1]), *board.runner().transport.ssh_options]
        with pytest.raises(DeviceFailed) as told:
            board.runner(ssh_options=options).connect()
    assert "cannot be reached" in str(told.value)
    assert "lost" not in str(told.value)


def test_an_agent_that_the_board_killed_is_no_unreachable_board(board: Board) -> None:
    agent = board.runner().connect()
    os.kill(agent.pid, signal.SIGKILL)
    with pytest.raises(DeviceFailed, match="ended without a word: it was killed there"):
        agent.ask("probe")
    agent.kill()
    shutil.rmtree(agent.hello["work"])


def test_a_session_that_is_stopped_leaves_nothing_on_the_board(board: Board, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), board.runner(env={"TMPDIR": str(tmp_path)}).connect():
        assert len(list(tmp_path.iterdir())) == 1
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        (Ending(255, ["Timeout, server orin not responding."], [], True), "The connection to 'orin' was lost"),
        (Ending(255, ["client_loop: send disconnect: Broken pipe"], [], True), "stops by itself within 30 s"),
        (Ending(255, ["Read from remote host orin: No route to host"], [], True), "was lost (Read from"),
        (Ending(255, [], [], True), "it was killed there, most likely because memory ran out"),
        (Ending(255, ["kex_exchange_identification: Connection reset by peer"], []), "cannot be reached: kex_"),
        (Ending(255, ["Connection closed by 10.0.0.2 port 22"], []), "cannot be reached: Connection closed"),
        (Ending(255, ["Timeout, server orin not responding."], []), "cannot be reached: Timeout"),
        (Ending(255, ["u@orin: Permission denied (publickey,password)."], []), "refused your key"),
        (Ending(255, ["Received disconnect: Too many authentication failures"], []), "refused your key"),
        (Ending(255, ["x: Bad configuration option: speed"], []), "ssh does not take its options: x: Bad"),
        (Ending(126, ["sh: 1: exec: /x/python: Permission denied"], []), "not a program that may be run (sh: 1"),
        (Ending(127, ["sh: 1: exec: python3: not found"], []), "No python3 on the board"),
        (Ending(1, ["PermissionError: [Errno 13] Permission denied: '/boot'"], []), "exit code 1"),
        (Ending(1, ["Connection refused by the licence server"], [], True), "The agent ended unexpectedly"),
        (
            Ending(1, [], ["Enter your name:"]),
            'login scripts print text or wait for input: "Enter your name:"',
        ),
        (Ending(3, ["odd"], []), "exit code 3"),
        (
            Ending(1, ["OSError: [Errno 28] No space left on device: '/tmp/edgecr-agent-1'"], []),
            "disk of 'orin' is full: not even EdgeCR's agent fits into its folder for temporary files. Free space "
            "there, or set transport.env.TMPDIR",
        ),
        (
            Ending(255, ["No ED25519 host key is known for orin and you have requested strict checking."], []),
            'edgecr devices trust quick --host-key", or connect once with "ssh orin".',
        ),
        (
            Ending(
                255,
                [
                    "Offending ED25519 key in /home/a b/known:3",
                    "Host key for [10.0.0.2]:2222 has changed and you have requested strict checking.",
                ],
                [],
            ),
            "ssh-keygen -R '[10.0.0.2]:2222' -f '/home/a b/known', then trust it again: \"edgecr devices trust quick",
        ),
        (
            Ending(255, ["Host key for x;rm has changed and you have requested strict checking."], []),
            "ssh-keygen -R <its address>, then trust it again",
        ),
    ],
)
def test_what_an_ending_means(ending, expected) -> None:
    runner = runner_for(quick_device(transport={"kind": "ssh", "host": "orin"}))
    assert isinstance(runner, SshRunner)
    assert expected in str(runner.explain(ending))
