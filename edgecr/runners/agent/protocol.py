"""The host's end of the agent's protocol: one child process, framed stdin, events on stdout."""

from __future__ import annotations

import contextlib
import hashlib
import json
import queue
import shutil
import subprocess
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from edgecr.core.errors import ConnectionLost, DeviceFailed, DeviceUnreachable, FileProblem
from edgecr.core.files import sha256
from edgecr.runners import stopping
from edgecr.runners.agent.archive import agent_archive
from edgecr.runners.agent.events import (
    ENDLESS,
    UNREADABLE,
    Event,
    Hello,
    message_of,
    parse_line,
    read_as,
    shown,
    unreadable,
)
from edgecr.runners.device import PING_S

PROTOCOL = 2
SILENCE_S = 600.0
PATIENCE_S = 5.0  # for a process that is about to end
KEPT_LINES = 100  # of what a board prints beside the protocol
BLOCK = 1 << 18  # bytes of a file that travel at once: signs of life and a cancel go in between
WAITING_FRAMES = 4
MOST_LINE = 1 << 26  # bytes of an event
MOST_ANSWER = 2 << 30  # bytes of all events after one request, more than a day of any measurement sends
EVENT_COST = 200  # bytes that an event costs beside its text
Explain = Callable[["Ending"], ConnectionLost]


@dataclass(frozen=True)
class Ending:
    """The end of a connection: exit code, and the last lines of both streams that were not protocol."""

    code: int | None
    errors: Sequence[str]
    noise: Sequence[str]
    greeted: bool = False
    """True if the agent had answered before; only then can the connection have been lost."""

    def last_words(self) -> str:
        """The most telling lines, for a message."""
        lines = [line for line in [*self.noise, *self.errors] if line.strip()]
        return " | ".join(lines[-4:]) or "it said nothing"


def plainly(ending: Ending) -> ConnectionLost:
    """The failure that an unexpected end is when no better explanation is known."""
    return ConnectionLost(f"The agent ended unexpectedly (exit code {ending.code}): {ending.last_words()}.")


_open: weakref.WeakSet[Connection] = weakref.WeakSet()


def kill_open_connections() -> None:
    """Ends every session of this process; whoever waits for one of them gets a DeviceFailed."""
    for connection in [*_open]:
        connection.kill()


class Connection:
    """A started agent; use it as a context manager, so that it never stays behind.

    Frames are written by a thread of their own: an interruption of the caller (Ctrl-C) never leaves half a
    frame on the line, so a cancel can always follow.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        lease_s: float,
        hello_s: float,
        explain: Explain = plainly,
        after: Callable[[], None] = lambda: None,
        keep_mb: int | None = None,
    ) -> None:
        """``after`` is called once the connection is closed, however that came.

        Files that are put stay on the board, up to ``keep_mb`` of them, and are not sent in the next session.
        """
        self._keep_mb = keep_mb
        self._explain, self._after = explain, after
        self._events: queue.Queue[Event | None] = queue.Queue()
        self._frames: queue.Queue[bytes | None] = queue.Queue(WAITING_FRAMES)
        self._noise: list[str] = []
        self._errors: list[str] = []
        self._fault: str | None = None
        self._received = 0
        self._closing, self._deaf = threading.Event(), threading.Event()
        self.hello: Event = {}
        try:
            stopping.check()
            self._process = _start(argv)
        except BaseException:
            after()
            raise
        _open.add(self)
        self._threads = {
            name: threading.Thread(target=target, args=arguments, daemon=True)
            for name, target, arguments in (
                ("events", self._read_events, ()),
                ("errors", self._read_errors, ()),
                ("frames", self._write_frames, ()),
                ("ping", self._ping, (ping_interval(lease_s),)),
            )
        }
        try:
            for thread in self._threads.values():
                thread.start()
            self._boot(env)
            self.hello = self._greet(hello_s)
            self.ask("lease", seconds=lease_s)
        except BaseException:
            self.kill()
            raise

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The agent's process number on its machine."""
        return int(self.hello["pid"])

    def put(self, path: Path, name: str, expected: str | None = None) -> None:
        """Sends a file, once more if it arrived damaged; ``/`` in the name makes folders.

        ``expected`` is the hash that it had when it was asked for; another one by now is a FileProblem.
        """
        digest = _hashed(path)
        if expected is not None and digest != expected:
            raise FileProblem(f"{path} was changed while it waited to be sent. Let nothing write to it, and ask again.")
        if self._keep_mb is None:
            self._put_safely(path, name, digest)
            return
        told = {"name": name, "sha256": digest, "budget_mb": self._keep_mb}
        if self.ask("have", **told).get("found") is not True:
            self._put_safely(path, name, digest)
            self.ask("keep", **told)

    def put_content(self, content: bytes, name: str) -> None:
        """Sends a file's content and waits for nothing: how it went is told among the events that follow."""
        digest = hashlib.sha256(content).hexdigest()
        self._write(_line({"op": "put", "name": name, "size": len(content), "sha256": digest}))
        for start in range(0, len(content), BLOCK):
            block = content[start : start + BLOCK]
            self._write(_line({"op": "block", "size": len(block)}) + block)

    def tell(self, op: str, **fields: Any) -> None:
        """Sends a request and waits for nothing."""
        self._received = 0
        self._write(_line({"op": op, **fields}))

    def event(self) -> Event:
        """The next event, whatever it is about."""
        return self._next(SILENCE_S)

    def request(self, op: str, **fields: Any) -> Iterator[Event]:
        """Sends a request and yields its events; ends with its ``done``, raises on its ``error``."""
        self.tell(op, **fields)
        while True:
            event = self._next(SILENCE_S)
            raise_failure(op, event)
            yield event
            if event["event"] == "done":
                return

    def ask(self, op: str, **fields: Any) -> Event:
        """The last event of a request that has one answer."""
        return list(self.request(op, **fields))[-1]

    def cancel(self, patience_s: float = SILENCE_S) -> None:
        """Stops what runs or is being sent, from whichever thread; the connection stays."""
        self._write(_line({"op": "cancel"}), patience_s)

    def close(self) -> None:
        """Stops what still runs, says goodbye and waits for the agent to tidy up."""
        try:
            with contextlib.suppress(DeviceFailed, subprocess.TimeoutExpired):
                self.cancel(PATIENCE_S)
                self._write(_line({"op": "bye"}), PATIENCE_S)
                self._process.wait(PATIENCE_S)
        finally:
            self.kill()

    def kill(self) -> None:
        """Ends the child process; an agent that had started notices, and tidies up by itself."""
        _open.discard(self)
        self._closing.set()
        self._stop_writing()
        try:
            if not self.hello:
                self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(PATIENCE_S)
        finally:
            self._process.kill()
            self._process.wait()
        for thread in self._threads.values():
            if thread.ident is not None:
                thread.join(PATIENCE_S)
        for stream in (self._process.stdout, self._process.stderr):
            _stream(stream).close()
        after, self._after = self._after, lambda: None
        after()

    def _boot(self, env: Mapping[str, str]) -> None:
        archive = agent_archive()
        with contextlib.suppress(DeviceFailed):  # the reader tells why the other side is gone
            self._write(_line({"size": len(archive), "env": dict(env)}) + archive)

    def _greet(self, patience_s: float) -> Event:
        event = self._next(patience_s)
        if event["event"] != "hello":
            raise DeviceFailed(f"The board began with {shown(repr(event), 200)}, not with a greeting.")
        hello = read_as(Hello, event)
        if hello.protocol != PROTOCOL:
            raise DeviceFailed(f"The agent speaks protocol {hello.protocol}, this EdgeCR {PROTOCOL}.")
        return hello.model_dump()

    def _put_safely(self, path: Path, name: str, digest: str) -> None:
        try:
            self._put(path, name, digest)
        except DeviceFailed as error:
            if "checksum" not in str(error):
                raise
            self._put(path, name, digest)

    def _put(self, path: Path, name: str, digest: str) -> None:
        try:
            size = path.stat().st_size
            self._write(_line({"op": "put", "name": name, "size": size, "sha256": digest}))
            with path.open("rb") as file:
                self._send(file, size, path)
        except OSError as error:
            raise FileProblem(f"{path} cannot be read: {error.strerror}.") from error
        raise_failure("put", self.event())

    def _send(self, file: IO[bytes], size: int, path: Path) -> None:
        """The bytes of a file, until all are sent or the board answers already: refused, or cancelled."""
        while size and self._events.empty():
            block = file.read(min(BLOCK, size))
            if not block:
                raise FileProblem(f"{path} became shorter while it was sent; let nothing write to it.")
            self._write(_line({"op": "block", "size": len(block)}) + block)
            size -= len(block)

    def _write(self, frame: bytes, patience_s: float = SILENCE_S) -> None:
        if self._closing.is_set():
            raise DeviceFailed("The connection to the board is closed.")
        try:
            self._frames.put(frame, timeout=patience_s)
        except queue.Full:
            raise ConnectionLost(f"The board has taken nothing for {patience_s:g} s.") from None
        if self._deaf.is_set():
            raise self._ended()

    def _next(self, patience_s: float) -> Event:
        try:
            event = self._events.get(timeout=patience_s)
        except queue.Empty:
            words = Ending(None, self._errors, self._noise).last_words()
            raise DeviceUnreachable(f"The board was silent for {patience_s:g} s ({words}).") from None
        if event is None:
            self._events.put(None)  # whoever asks again must not wait
            raise self._ended()
        if event["event"] == UNREADABLE:
            raise DeviceFailed(f'The board sent a line that is no event: "{shown(event["text"], 200)}".')
        if event["event"] == ENDLESS:
            raise DeviceFailed(
                f"The board sends events without end: more than {MOST_ANSWER >> 20} MB after one request. Measure for "
                "a shorter time; if it was short, something poses as EdgeCR's agent there."
            )
        return event

    def _ended(self) -> ConnectionLost:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE_S)
        for name in ("events", "errors"):
            self._threads[name].join(1)
        if self._fault:
            return ConnectionLost(f"The agent ended: {self._fault}")
        return self._explain(Ending(self._process.poll(), self._errors, self._noise, bool(self.hello)))

    def _read_events(self) -> None:
        """Own thread; whatever happens, the other end of the queue hears that nothing more comes."""
        try:
            while line := _stream(self._process.stdout).readline(MOST_LINE):
                noise, event = parse_line(line)
                if noise and len(self._noise) < KEPT_LINES:
                    self._noise.append(noise)
                if event and event["event"] == "fault":
                    self._fault = message_of(event)
                elif event:
                    self._events.put(event)
                self._received += len(line) + EVENT_COST
                if self._received > MOST_ANSWER:
                    self._events.put({"event": ENDLESS})
                    return
        finally:
            self._events.put(None)

    def _read_errors(self) -> None:
        while line := _stream(self._process.stderr).readline(MOST_LINE):
            self._errors.append(shown(line.rstrip()))
            del self._errors[:-KEPT_LINES]

    def _write_frames(self) -> None:
        """Own thread; after a failure frames are still taken, so that nobody waits to hand one over."""
        stdin = _stream(self._process.stdin)
        while (frame := self._frames.get()) is not None:
            try:
                if not self._deaf.is_set():
                    stdin.write(frame)
                    stdin.flush()
            except (OSError, ValueError):
                self._deaf.set()
        with contextlib.suppress(OSError, ValueError):
            stdin.close()

    def _stop_writing(self) -> None:
        """Has the writer close stdin; frames that it has not begun are dropped when there is no room."""
        while True:
            try:
                return self._frames.put_nowait(None)
            except queue.Full:
                with contextlib.suppress(queue.Empty):
                    self._frames.get_nowait()

    def _ping(self, interval: float) -> None:
        while not self._closing.wait(interval):
            with contextlib.suppress(queue.Full):  # what waits to be sent is a sign of life as well
                self._frames.put_nowait(_line({"op": "ping"}))


def ping_interval(lease_s: float) -> float:
    """Seconds between signs of life: two may be late before the lease is over."""
    return min(PING_S, lease_s / 3)


def raise_failure(op: str, event: Event) -> None:
    """Raises what an event says of a request that failed."""
    if event["event"] == "error":
        raise DeviceFailed(message_of(event))
    if event["event"] == "cancelled":
        raise DeviceFailed(f"The request {op!r} was cancelled.")
    if event["event"] == "hello":
        raise unreadable("hello", "the agent had greeted before")


def _hashed(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise FileProblem(f"{path} cannot be read: {error.strerror}.") from error


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"


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
