"""The agent ends with a message when it must, stops when it is told to, and never stays behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edgecr.core.errors import DeviceFailed
from edgecr.runners.agent import protocol
from edgecr.runners.agent.archive import BOOT, agent_archive
from edgecr.runners.agent.protocol import Connection
from tests.runners.fake_agent import fake
from tests.runners.tiny_device import write_onnx


def connect(**changes) -> Connection:
    settings = {"env": {}, "lease_s": 30.0, "hello_s": 30.0} | changes
    return Connection([sys.executable, "-u", "-c", BOOT], **settings)


def ended(agent: Connection) -> bool:
    """The process is gone, and not by its lease."""
    for _ in range(1000):
        if agent._process.poll() is not None:
            return not Path(agent.hello["work"]).exists()
        time.sleep(0.01)
    return False


def tool(folder: Path, script: str) -> dict[str, str]:
    path = folder / "tegrastats"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


PUT = b'{"op": "put", "name": "m.onnx", "size": 3, "sha256": ""}\n'


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (b'{"op": "put", "name": "..", "size": 3, "sha256": ""}\n', "BadName"),
        (b'{"op": "put", "name": "a/../../x", "size": 3, "sha256": ""}\n', "BadName"),
        (b'{"op": "put", "name": "x"}\n', "KeyError"),
        (b'{"op": "put", "name": "x", "size": "many", "sha256": ""}\n', "TypeError"),
        (PUT + PUT, "before the last one was complete"),
        (PUT + b'{"op": "block", "size": 4}\nabcd', "1 bytes too many"),
        (b'{"op": "block", "size": 99999999999}\n', "a block of 99999999999 bytes"),
        (b'{"op": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "RecursionError"),
        (b'{"op": "' + b"x" * (1 << 23) + b'"}\n', "a line of more than"),
        (b'{"op": ["put"]}\n', "TypeError"),
        (b'{"op": "lease", "seconds": "long"}\n', "ValueError"),
    ],
)
def test_what_the_reader_cannot_take_ends_the_agent_with_a_message(frame: bytes, words: str) -> None:
    with connect() as agent:
        agent._write(frame)
        with pytest.raises(DeviceFailed, match=f"The agent ended: a request could not be taken .*{words}"):
            agent._next(20)
        assert ended(agent)


def test_a_work_folder_that_vanished_ends_the_agent_with_a_message(models) -> None:
    with connect() as agent:
        shutil.rmtree(agent.hello["work"])
        with pytest.raises(DeviceFailed, match=r"could not be taken .*No such file"):
            agent.put(models["baseline"], "m.onnx")
        assert ended(agent)


def test_a_signal_on_the_board_is_told() -> None:
    with connect() as agent:
        os.kill(agent.pid, signal.SIGTERM)
        with pytest.raises(DeviceFailed, match=r"it was told to end on the board \(signal 15\)"):
            agent._next(20)
        assert ended(agent)


def deaf_host(folder: Path, script: str) -> subprocess.Popen[bytes]:
    """An agent whose host sends a request that floods the line, reads nothing, and asks for a lease."""
    archive = agent_archive()
    environment = {**tool(folder, script), "TMPDIR": str(folder)}
    process = subprocess.Popen([sys.executable, "-u", "-c", BOOT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdin.write(json.dumps({"size": len(archive), "env": environment}).encode() + b"\n" + archive)
    process.stdin.write(b'{"op": "tool", "argv": ["tegrastats"]}\n')
    process.stdin.flush()
    return process


@pytest.mark.parametrize("script", ["exec yes flood", "exec sleep 300"], ids=["write blocks", "child works"])
def test_a_host_that_leaves_is_noticed_whatever_waits(tmp_path: Path, script: str) -> None:
    process = deaf_host(tmp_path, f"touch {tmp_path}/started; {script}")
    try:
        for _ in range(1000):
            if (tmp_path / "started").exists():
                break
            time.sleep(0.01)
        time.sleep(0.3)  # until the line is full
        process.stdin.write(b'{"op": "lease", "seconds": 600}\n')  # its answer waits for the line as well
        process.stdin.flush()
        time.sleep(0.3)
        process.stdin.close()
        assert process.wait(10) == 3
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert {path.name for path in tmp_path.iterdir()} == {"started", "tegrastats"}


def test_cancel_stops_what_runs_and_what_waits_behind_it(tmp_path: Path) -> None:
    with connect(env=tool(tmp_path, f"touch {tmp_path}/started; sleep 300")) as agent:
        agent._write(b'{"op": "probe"}\n{"op": "tool", "argv": ["tegrastats"]}\n{"op": "cancel"}\n')
        assert [agent._next(20) for _ in range(2)] == [
            {"event": "cancelled", "op": "probe"},
            {"event": "cancelled", "op": "tool"},
        ]
        assert not (tmp_path / "started").exists()
        assert agent.ask("probe")["facts"]


def bench(model: str) -> dict:
    config = {"providers": ["CPUExecutionProvider"], "threads": 1, "spin": False}
    arm = {"label": "a", "model": model, "runtime": "ort", "batch": 1, "config": config}
    warmup = {"tolerance": 1e-12, "window_s": 0.01, "max_s": 300.0}
    rest = {"seed": 0, "rounds": 10**6, "least_rounds": 1, "max_s": 300.0, "round_s": 0.01}
    return {"arms": [arm], "warmup": warmup, **rest}


@pytest.mark.parametrize("last_before", [None, "arm"], ids=["starting", "warming up"])
def test_cancel_works_while_a_launch(models, last_before: str | None) -> None:
    with connect() as agent:
        agent.put(models["baseline"], "m.onnx")
        events = agent.request("bench", **bench("m.onnx"))
        if last_before:
            assert next(events)["event"] == last_before
            agent.cancel()
        else:
            threading.Timer(0.05, agent.cancel).start()
        with pytest.raises(DeviceFailed, match="'bench' was cancelled"):
            list(events)
        assert agent.ask("probe")["facts"]


def test_cancel_stops_an_upload_and_keeps_the_connection(tmp_path: Path, models, monkeypatch) -> None:
    large = tmp_path / "large.onnx"
    with large.open("wb") as file:
        file.truncate(64 << 20)
    with connect() as agent:
        frames, write = [], agent._write

        def cancelling(frame: bytes, *patience: float) -> None:
            write(frame, *patience)
            frames.append(frame)
            if len(frames) == 3:
                agent.cancel()

        monkeypatch.setattr(agent, "_write", cancelling)
        with pytest.raises(DeviceFailed, match="'put' was cancelled"):
            agent.put(large, "large.onnx")
        monkeypatch.undo()
        assert not (Path(agent.hello["work"]) / "large.onnx").exists()
        assert len(frames) < 100
        agent.put(models["baseline"], "m.onnx")
        assert agent.ask("probe")["facts"]


def test_a_refused_upload_is_not_sent_to_its_end(tmp_path: Path) -> None:
    large, log = tmp_path / "large.onnx", tmp_path / "log"
    with large.open("wb") as file:
        file.truncate(64 << 20)
    with fake(log, {"put": [{"event": "error", "message": "Only 19 MB free."}]}) as agent:
        with pytest.raises(DeviceFailed, match="Only 19 MB free"):
            agent.put(large, "large.onnx")
        assert log.read_text().count("block") < 200


def test_a_file_that_shrinks_while_it_is_sent_is_named(tmp_path: Path, models, monkeypatch) -> None:
    path, original = models["baseline"], Connection._send

    def shrinking(self: Connection, file, size: int, of: Path) -> None:
        of.write_bytes(b"x" * (size // 2))
        original(self, file, size, of)

    monkeypatch.setattr(Connection, "_send", shrinking)
    with connect() as agent, pytest.raises(Exception, match="became shorter while it was sent"):
        agent.put(path, "m.onnx")


def test_a_stop_cancels_what_runs_and_says_goodbye(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(KeyboardInterrupt), fake(log, {"tool": []}) as agent:
        agent._write(b'{"op": "tool"}\n')
        raise KeyboardInterrupt
    assert log.read_text().split() == ["lease", "tool", "cancel", "bye"]


def interrupt_soon() -> None:
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()


def test_ctrl_c_reaches_the_tool_on_the_board(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), connect(env=tool(tmp_path, "echo $$; exec sleep 300")) as agent:
        events = agent.request("tool", argv=["tegrastats"])
        number = next(events)["text"]
        interrupt_soon()
        next(events)
    assert agent._process.returncode == 0  # it had heard the goodbye
    assert not Path(agent.hello["work"]).exists()
    assert not Path(f"/proc/{number}").exists()


def test_ctrl_c_is_heard_while_a_board_takes_nothing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(protocol, "PATIENCE_S", 0.2)
    large = tmp_path / "large.onnx"
    with large.open("wb") as file:
        file.truncate(64 << 20)
    monkeypatch.setattr(Connection, "ask", lambda *_, **__: {})  # it answers no lease either
    with pytest.raises(KeyboardInterrupt), fake(tmp_path / "log", {"deaf": []}) as agent:
        interrupt_soon()
        agent.put(large, "large.onnx")
    assert agent._process.poll() is not None


def test_who_asks_a_dead_agent_twice_does_not_wait(models) -> None:
    with connect() as agent:
        os.kill(agent.pid, signal.SIGKILL)
        for _ in range(3):
            with pytest.raises(DeviceFailed, match="ended unexpectedly"):
                agent._next(20)
    shutil.rmtree(agent.hello["work"])


def test_a_launch_that_needs_too_much_memory_is_refused_unstarted(tmp_path: Path, quick) -> None:
    from edgecr.runners.base import Arm, MeasurePlan, runner_for

    path = write_onnx(tmp_path / "m.onnx", 8)
    result = runner_for(quick).measure(MeasurePlan((Arm("candidate", path, batch=10**9),)))
    assert "Not enough memory on the board, so nothing was started" in (result.error or "")
    assert "candidate (batch 1000000000: about " in (result.error or "")
    assert "Use a smaller batch" in (result.error or "")
