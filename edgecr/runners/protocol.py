"""The host's end of the agent's protocol: one child process, framed stdin, events on stdout."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from edgecr.errors import DeviceFailed, FileProblem
from edgecr.files import sha256
from edgecr.runners.archive import agent_archive

PROTOCOL = 1
MARK = b"\x1e"
PING_S = 5.0
SILENCE_S = 600.0
PATIENCE_S = 5.0  # for a process that is about to end
KEPT_LINES = 100  # of what a board prints beside the protocol
Explain = Callable[["Ending"], str]


class Ending:
    """How a connection ended: exit code, and the last lines of both streams that were not protocol."""

    def __init__(self, code: int | None, errors: Sequence[str], noise: Sequence[str]) -> None:
        self.code, self.errors, self.noise = code, list(errors), list(noise)

    def last_words(self) -> str:
        """The most telling lines, for a message."""
        lines = [line for line in [*self.noise, *self.errors] if line.strip()]
        return " | ".join(lines[-4:]) or "it said nothing"


def plainly(ending: Ending) -> str:
    """What to tell when nothing better is known."""
    return f"The agent ended unexpectedly (exit code {ending.code}): {ending.last_words()}."


def parse_line(line: bytes) -> tuple[str, dict[str, Any] | None]:
    """What a line holds: text that is no protocol, and the event behind the mark if there is one."""
    noise, mark, text = line.partition(MARK)
    with contextlib.suppress(ValueError):
        if mark and isinstance(event := json.loads(text), dict) and "event" in event:
            return noise.decode("utf-8", "replace").strip(), event
    return line.decode("utf-8", "replace").strip(), None


class Connection:
    """A started agent; use it as a context manager, so that it never stays behind."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        lease_s: float,
        hello_s: float,
        explain: Explain = plainly,
    ) -> None:
        self._explain = explain
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._noise: list[str] = []
        self._errors: list[str] = []
        self._write_lock = threading.Lock()
        self._closing = threading.Event()
        self._work: str | None = None
        self._process = _start(argv)
        self._threads = [
            threading.Thread(target=target, daemon=True)
            for target in (self._read_events, self._read_errors, self._ping)
        ]
        for thread in self._threads:
            thread.start()
        try:
            self._boot(env)
            self.hello = self._greet(hello_s)
            self._finish_request("lease", seconds=lease_s)
        except BaseException:
            self.kill()
            raise

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.kill()

    @property
    def pid(self) -> int:
        """The agent's process number on its machine."""
        return int(self.hello["pid"])

    def put(self, path: Path, name: str) -> None:
        """Sends a file, once more if it arrived damaged."""
        try:
            self._put(path, name)
        except DeviceFailed as error:
            if "checksum" not in str(error):
                raise
            self._put(path, name)

    def request(self, op: str, **fields: Any) -> Iterator[dict[str, Any]]:
        """Sends a request and yields its events; ends with its ``done``, raises on its ``error``."""
        self._write(json.dumps({"op": op, **fields}).encode() + b"\n")
        while True:
            event = self._next(SILENCE_S)
            if event["event"] == "error":
                raise DeviceFailed(event["message"])
            if event["event"] == "cancelled":
                raise DeviceFailed(f"The request {op!r} was cancelled.")
            yield event
            if event["event"] == "done":
                return

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """The last event of a request that has one answer."""
        return list(self.request(op, **fields))[-1]

    def cancel(self) -> None:
        """Stops the running request; the connection stays."""
        self._write(b'{"op": "cancel"}\n')

    def close(self) -> None:
        """Says goodbye and waits for the agent to tidy up."""
        with contextlib.suppress(DeviceFailed, subprocess.TimeoutExpired):
            self._finish_request("bye")
            self._process.wait(PATIENCE_S)
        self.kill()

    def kill(self) -> None:
        """Ends the child process; the agent notices and tidies up by itself."""
        self._closing.set()
        with contextlib.suppress(OSError):
            _stream(self._process.stdin).close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE_S)
        self._process.kill()
        self._process.wait()
        for thread in self._threads:
            thread.join(PATIENCE_S)
        for stream in (self._process.stdout, self._process.stderr):
            _stream(stream).close()

    def _boot(self, env: Mapping[str, str]) -> None:
        archive = agent_archive()
        head = json.dumps({"size": len(archive), "env": dict(env)}).encode() + b"\n"
        with contextlib.suppress(DeviceFailed):  # the reader tells why the other side is gone
            self._write(head + archive)

    def _greet(self, patience_s: float) -> dict[str, Any]:
        hello = self._next(patience_s)
        if hello["event"] != "hello" or hello["protocol"] != PROTOCOL:
            raise DeviceFailed(f"The board answered with another protocol: {hello}.")
        return hello

    def _finish_request(self, op: str, **fields: Any) -> None:
        for _ in self.request(op, **fields):
            pass

    def _put(self, path: Path, name: str) -> None:
        try:
            head = {"op": "put", "name": name, "size": path.stat().st_size, "sha256": sha256(path)}
            with path.open("rb") as file, self._write_lock:
                self._write_all(json.dumps(head).encode() + b"\n")
                while block := file.read(1 << 20):
                    self._write_all(block)
        except OSError as error:
            raise FileProblem(f"{path} cannot be read: {error.strerror}.") from error
        event = self._next(SILENCE_S)
        if event["event"] == "error":
            raise DeviceFailed(event["message"])

    def _write(self, content: bytes) -> None:
        with self._write_lock:
            self._write_all(content)

    def _write_all(self, content: bytes) -> None:
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(_stream(self._process.stdin).fileno(), view) :]
        except (OSError, ValueError) as error:
            raise DeviceFailed(self._ended()) from error

    def _next(self, patience_s: float) -> dict[str, Any]:
        try:
            event = self._events.get(timeout=patience_s)
        except queue.Empty:
            words = Ending(None, self._errors, self._noise).last_words()
            raise DeviceFailed(f"The board was silent for {patience_s:g} s ({words}).") from None
        if event is None:
            raise DeviceFailed(self._ended())
        return event

    def _ended(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE_S)
        self._threads[1].join(1)
        return self._explain(Ending(self._process.poll(), self._errors, self._noise))

    def _read_events(self) -> None:
        for line in _stream(self._process.stdout):
            noise, event = parse_line(line)
            if noise and len(self._noise) < KEPT_LINES:
                self._noise.append(noise)
            if event is not None:
                self._events.put(event)
        self._events.put(None)

    def _read_errors(self) -> None:
        for line in _stream(self._process.stderr):
            self._errors.append(line.decode("utf-8", "replace").rstrip())
            del self._errors[:-KEPT_LINES]

    def _ping(self) -> None:
        while not self._closing.wait(PING_S):
            with contextlib.suppress(DeviceFailed):
                self._write(b'{"op": "ping"}\n')


def _start(argv: Sequence[str]) -> subprocess.Popen[bytes]:
    if shutil.which(argv[0]) is None:
        raise DeviceFailed(f"{argv[0]} is not installed on this machine; install it to reach the board.")
    return subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise ValueError("the process was started without pipes")
    return stream
