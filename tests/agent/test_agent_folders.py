"""Folders of agents that were killed go; nothing else does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgecr.runners.agent.archive import BOOT, agent_archive
from edgecr.runners.agent.protocol import Connection


def connect(folder: Path) -> Connection:
    return Connection([sys.executable, "-u", "-c", BOOT], env={"TMPDIR": str(folder)}, lease_s=30, hello_s=30)


def work_folder(parent: Path, name: str = "edgecr-agent-x") -> Path:
    folder = parent / name
    folder.mkdir()
    (folder / "model.onnx").write_text("x")
    return folder


def test_the_next_session_sweeps_what_a_killed_agent_left_and_spares_a_living_one(tmp_path: Path) -> None:
    with connect(tmp_path) as living:
        killed = connect(tmp_path)
        os.kill(killed.pid, signal.SIGKILL)
        killed.kill()
        left, kept = Path(killed.hello["work"]), Path(living.hello["work"])
        assert left.is_dir()
        with connect(tmp_path) as next_one:
            assert not left.exists()
            assert kept.is_dir()
            assert living.ask("probe")["facts"]
            assert {kept, Path(next_one.hello["work"])} == set(tmp_path.iterdir())
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_is_held_protects_and_a_free_one_does_not(agent, tmp_path: Path) -> None:
    folders, folder = agent("folders"), work_folder(tmp_path)
    held = folders.hold(str(folder))
    folders.sweep(str(tmp_path))
    assert folder.exists()
    os.close(held)
    folders.sweep(str(tmp_path))
    assert not folder.exists()


def test_an_agent_that_is_just_starting_is_spared_and_one_that_never_came_up_is_not(agent, tmp_path: Path) -> None:
    folders, folder = agent("folders"), work_folder(tmp_path)
    folders.sweep(str(tmp_path))
    assert folder.exists()
    os.utime(folder, (0, 0))
    folders.sweep(str(tmp_path))
    assert not folder.exists()


def test_other_folders_and_links_stay(agent, tmp_path: Path) -> None:
    other, precious = work_folder(tmp_path, "edgecr-layers-x"), work_folder(tmp_path, "precious")
    link = tmp_path / "edgecr-agent-link"
    link.symlink_to(precious)
    file = tmp_path / "edgecr-agent-file"
    file.write_text("x")
    for folder in (other, precious):
        os.utime(folder, (0, 0))
    agent("folders").sweep(str(tmp_path))
    assert all(path.exists() for path in (other, precious / "model.onnx", link, file))


def test_folders_of_other_users_stay(agent, tmp_path: Path, monkeypatch) -> None:
    folder = work_folder(tmp_path)
    os.utime(folder, (0, 0))
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    agent("folders").sweep(str(tmp_path))
    assert folder.exists()


def boot(folder: Path, *, size: int | None = None) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", BOOT], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    archive = agent_archive()
    head = b'{"size": %d, "env": {"TMPDIR": "%s"}}\n' % (size or len(archive), str(folder).encode())
    process.stdin.write(head)
    process.stdin.flush()
    return process


def finished(process: subprocess.Popen[bytes]) -> int:
    try:
        process.stdin.close()
        return process.wait(30)
    finally:
        process.kill()
        process.stderr.close()


def until_there_is_a_folder(folder: Path) -> None:
    for _ in range(1000):
        if list(folder.glob("edgecr-agent-*")):
            return
        signal.sigtimedwait([], 0.01)
    pytest.fail("the agent made no folder")


def test_a_host_that_leaves_while_it_sends_the_agent_leaves_no_folder(tmp_path: Path) -> None:
    process = boot(tmp_path)
    process.stdin.write(agent_archive()[:1000])
    process.stdin.flush()
    until_there_is_a_folder(tmp_path)
    assert finished(process) == 3
    assert list(tmp_path.iterdir()) == []


def test_an_agent_that_cannot_start_leaves_no_folder(tmp_path: Path) -> None:
    process = boot(tmp_path, size=4)
    process.stdin.write(b"junk")
    process.stdin.flush()
    assert finished(process) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGALRM])
def test_a_signal_while_it_starts_leaves_no_folder(tmp_path: Path, number: int) -> None:
    process = boot(tmp_path)
    until_there_is_a_folder(tmp_path)
    process.send_signal(number)
    assert process.wait(30) == 6
    finished(process)
    assert list(tmp_path.iterdir()) == []
