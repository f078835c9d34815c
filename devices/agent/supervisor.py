"""The agent's main process: files, liveness, and one child process at a time for measuring and tools.

It imports no runtime, so each measuring process starts as empty as a process can be, and a runtime that
crashes or runs out of memory takes nothing else with it.
"""

import json
import os
import platform
import queue
import select
import signal
import sys
import threading
import time
from typing import Any, BinaryIO, Callable, Dict, List, Optional, Tuple

from . import answering, board_lock, folders, inbox, memory, probe, tools, trtexec, uploads, watch
from .channel import MARK, PROTOCOL, Channel
from .children import Children
from .worker import REPORTED

LEASE_S = 30.0
LAST_WORDS_S = 1.0  # how long the end waits for a host that does not listen
MOST_LINE = 1 << 22  # bytes of a request
LEFT = select.POLLHUP | select.POLLERR | select.POLLNVAL | getattr(select, "POLLRDHUP", 0x2000)
MEASURING = ("bench", "alone", "layers", "eval")
STAYING = ("eval",)  # their process takes batches while it runs
START = "import sys; sys.path.insert(0, sys.argv[1]); from edgecr_agent.__main__ import measure; measure()"

# Exit codes.
BYE, HOST_LEFT, HOST_DEAF, LEASE_OVER, SIGNALLED, FAULT = 0, 3, 4, 5, 6, 7


class Supervisor(object):
    """Serves one host; ends, and leaves nothing behind, as soon as that host is gone."""

    def __init__(self, requests: BinaryIO, channel: Channel, work: str) -> None:
        self.requests, self.channel, self.work = requests, channel, work
        self.jobs: "queue.Queue[Tuple[int, Dict[str, Any]]]" = queue.Queue()
        self.children = Children()
        self.upload: Optional[inbox.Upload] = None
        self.lease, self.last_sign = LEASE_S, time.monotonic()
        self.accepted = self.cancelled_until = 0  # jobs are numbered; a cancel is for all that were sent before it
        self.ending = threading.Lock()
        self.watcher = watch.Watcher(self.emit)
        self.lock = folders.hold(work)
        self.turn = board_lock.BoardLock()

    def serve(self) -> None:
        """Works until the host says bye, leaves, or falls silent for longer than the lease."""
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, self.signalled)
        signal.alarm(0)  # it guarded the start
        folders.sweep(os.path.dirname(self.work))
        self.emit("hello", protocol=PROTOCOL, pid=os.getpid(), work=self.work, python=platform.python_version())
        for target in (self.read, self.watch):
            threading.Thread(target=target, daemon=True).start()
        while True:
            self.do(*self.jobs.get())

    def signalled(self, number: int, frame: Any) -> None:
        """Ends the agent, because somebody on the board wants it to."""
        self.end(SIGNALLED, "it was told to end on the board (signal %d)." % number)

    def end(self, code: int, message: Optional[str] = None) -> None:
        """Tells why if the host still listens, kills what runs, removes the work folder and exits."""
        if not self.ending.acquire(False):
            return  # another thread is at it
        if message:
            self.last_words(message)
        self.children.kill()
        self.watcher.kill()
        folders.remove(self.work)
        os._exit(code)

    def last_words(self, message: str) -> None:
        """Tells the host why the agent ends; a host that does not read holds up nothing."""
        telling = threading.Thread(target=self.emit, args=("fault",), kwargs={"message": message}, daemon=True)
        telling.start()
        telling.join(LAST_WORDS_S)

    def emit(self, event: str, **fields: Any) -> None:
        """Sends one event; a host that cannot be reached ends the agent."""
        try:
            self.channel.emit(event, **fields)
        except OSError:
            self.end(HOST_DEAF)

    def watch(self) -> None:
        """Ends the agent when the host has left, whatever other threads wait for, or when the lease is over.

        Runs in its own thread.
        """
        line = select.poll()
        line.register(self.requests.fileno(), LEFT)
        while time.monotonic() - self.last_sign <= self.lease:
            if line.poll(1000 * min(1.0, self.lease / 4)):
                self.end(HOST_LEFT)
        self.end(LEASE_OVER, "the host gave no sign of life for %g s." % self.lease)

    def read(self) -> None:
        """Reads requests; the only place that reads stdin (own thread)."""
        try:
            while True:
                self.accept(self.next_line())
        except EOFError:
            self.end(HOST_LEFT)
        except BaseException as error:  # without a reader nobody would hear of the host any more
            self.end(FAULT, "a request could not be taken (%s: %s)." % (type(error).__name__, str(error)[:500]))

    def next_line(self) -> bytes:
        """One whole line; EOFError when the host has left."""
        line = self.requests.readline(MOST_LINE)
        if len(line) == MOST_LINE:
            raise ValueError("a line of more than %d bytes" % MOST_LINE)
        if not line.endswith(b"\n"):
            raise EOFError()
        self.last_sign = time.monotonic()
        return line

    def accept(self, line: bytes) -> None:
        """Does at once what may not wait for the running job, and queues the rest."""
        try:
            request = json.loads(line.decode("utf-8"))
            op = request["op"]
        except (ValueError, KeyError, TypeError) as error:
            self.emit("error", op="?", type="BadRequest", message="Not a request: %s." % error)
            return
        if op in self.at_once:
            self.at_once[op](self, request)
        else:
            self.accepted += 1
            self.jobs.put((self.accepted, request))

    def ping(self, request: Dict[str, Any]) -> None:
        """A sign of life; that it was read is all."""

    def grant(self, request: Dict[str, Any]) -> None:
        """Sets the lease."""
        self.lease = float(request["seconds"])
        self.emit("done", op="lease")

    def cancel(self, request: Dict[str, Any]) -> None:
        """Stops what was asked for so far: the upload, the running job and the waiting ones."""
        self.cancelled_until = self.accepted
        self.children.kill()
        if self.upload:
            self.upload.drop()
            self.upload = None
            self.emit("cancelled", op="put")

    def put(self, request: Dict[str, Any]) -> None:
        """Begins to receive a file."""
        if self.upload:
            raise ValueError("a file before the last one was complete")
        self.upload = inbox.Upload(self.work, request["name"], request["size"], request["sha256"])
        if self.upload.problem or not self.upload.left:
            self.received()

    def block(self, request: Dict[str, Any]) -> None:
        """Receives a part of the file; parts of one that was refused or cancelled are read and forgotten."""
        content = inbox.block_of(self.requests, request["size"])
        self.last_sign = time.monotonic()
        if self.upload and (self.upload.add(content) or self.upload.problem):
            self.received()

    def received(self) -> None:
        """Ends an upload, and tells how it went."""
        upload, self.upload = self.upload, None
        if upload is None:
            return
        problem = upload.finish()
        if problem:
            upload.drop()
            self.emit("error", op="put", type="Refused", message=problem, name=upload.name)
        else:
            self.emit("done", op="put", name=upload.name)

    def answer(self, request: Dict[str, Any]) -> None:
        """Has the running process answer a batch that was uploaded before."""
        answering.hand_over(request, self.work, self.children)

    def enough(self, request: Dict[str, Any]) -> None:
        """Lets the running process end after the batches that it was given."""
        self.children.tell(b"", last=True)

    at_once: Dict[str, Callable[["Supervisor", Dict[str, Any]], None]] = {
        "ping": ping,
        "lease": grant,
        "cancel": cancel,
        "put": put,
        "block": block,
        "answer": answer,
        "enough": enough,
    }

    def do(self, number: int, request: Dict[str, Any]) -> None:
        """Does one queued request; whatever goes wrong becomes an error event."""
        op, fields = request["op"], None

        def stopped() -> bool:
            return number <= self.cancelled_until

        try:
            if not stopped():
                with self.watcher.during(request):
                    fields = self.perform(op, request, stopped)
        except Told as told:
            self.channel.relay(told.line)
            return
        except Exception as error:  # the host must hear of everything that fails here
            self.emit("error", op=op, type=type(error).__name__, message=str(error)[:2000])
            return
        if stopped():
            self.emit("cancelled", op=op)
        elif fields is not None:
            self.emit("done", op=op, **fields)

    def perform(self, op: str, request: Dict[str, Any], stopped: Callable[[], bool]) -> Any:
        """The result of a request as fields of its done event; None when it was stopped."""
        if op == "bye":
            self.emit("done", op=op)
            self.end(BYE)
        if op == "probe":
            return {"facts": probe.facts(self.work, request.get("packages", ()))}
        if op == "lock":
            self.turn.take(request["owner"], request["wait_s"], request["shared"], self.waits, stopped)
            return {}
        if op == "tool":
            return tools.run(
                request["argv"], self.work, self.children, self.tool_line, stopped, request.get("fetch", ())
            )
        if op == "idle":
            return watch.rest(request["seconds"], stopped)
        if op in trtexec.OPS:
            return trtexec.perform(request, self.work, self.children, self.emit, stopped)
        if op in uploads.OPS:
            return uploads.perform(request, self.work)
        if op in MEASURING:
            return self.measure(request, stopped)
        raise ValueError("unknown request %r" % op)

    def waits(self, holder: Dict[str, Any]) -> None:
        """Tells whom the board waits for."""
        self.emit("waiting", holder=holder)

    def tool_line(self, line: bytes) -> None:
        """Hands on one line that a tool printed."""
        self.emit("line", text=line.decode("utf-8", "replace").rstrip())

    def measure(self, request: Dict[str, Any], stopped: Callable[[], bool]) -> Any:
        """Runs a request in a fresh process and hands on its events, of which an error is the last one of the request.

        The host takes what comes after it for the answer to its next request: nothing may, of all that is read beside.
        """
        problem = memory.refusal(request)
        if problem:
            raise NotEnoughMemory(problem)
        argv = [sys.executable, "-u", "-c", START, os.path.join(self.work, "agent.pyz"), str(os.getpid())]
        text = json.dumps(request).encode("utf-8") + b"\n"
        errors: List[bytes] = []

        def relay(line: bytes) -> None:
            if is_error(line):
                errors.append(line)
            elif line.startswith(MARK):  # whatever else a runtime may print is no event
                self.channel.relay(line)

        code = self.children.run(argv, self.work, relay, stopped, text, more=request["op"] in STAYING)
        answering.tidy(self.work)
        if code == 0:
            return {}
        if stopped():
            return None
        if code == REPORTED and errors:
            raise Told(errors[0])
        raise Crashed(how_it_died(code))


class NotEnoughMemory(Exception):
    """A request that would not fit into the board's memory."""


class Crashed(Exception):
    """A measuring process that ended without reporting an error."""


class Told(Exception):
    """A measuring process that reported an error, as the event that it is."""

    def __init__(self, line: bytes) -> None:
        super().__init__("reported")
        self.line = line


def is_error(line: bytes) -> bool:
    """True for an event that ends a request with an error."""
    if not line.startswith(MARK) or b'"error"' not in line:
        return False
    try:
        return bool(json.loads(line[len(MARK) :].decode("utf-8"))["event"] == "error")
    except (ValueError, KeyError, TypeError):
        return False


def how_it_died(code: int) -> str:
    """The message for a measuring process that ended without reporting an error."""
    if code == -signal.SIGKILL:
        return (
            "The measuring process was killed, most likely because the board ran out of memory. "
            "Use a smaller batch, or stop other programs."
        )
    if code < 0:
        return "The board's runtime crashed (signal %d)." % -code
    return "The measuring process ended with code %d and said nothing." % code
