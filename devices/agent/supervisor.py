"""The agent's main process: files, liveness, and one child process at a time for measuring and tools.

It imports no runtime, so each measuring process starts as empty as a process can be, and a runtime that
crashes or runs out of memory takes nothing else with it.
"""

import json
import os
import platform
import queue
import shutil
import signal
import sys
import threading
import time
from typing import Any, BinaryIO, Dict

from . import inbox, probe, tools
from .channel import MARK, PROTOCOL, Channel
from .children import Children
from .worker import REPORTED

LEASE_S = 30.0
MEASURING = ("bench", "alone")
START = "import sys; sys.path.insert(0, sys.argv[1]); from edgecr_agent.__main__ import measure; measure()"


class Supervisor(object):
    """Serves one host; ends, and leaves nothing behind, as soon as that host is gone."""

    def __init__(self, requests: BinaryIO, channel: Channel, work: str) -> None:
        self.requests, self.channel, self.work = requests, channel, work
        self.jobs: "queue.Queue[Dict[str, Any]]" = queue.Queue()
        self.children = Children()
        self.lease, self.last_sign = LEASE_S, time.monotonic()
        self.cancelled = threading.Event()

    def serve(self) -> None:
        """Works until the host says bye, leaves, or falls silent for longer than the lease."""
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, lambda *_: self.end(6))
        self.emit(
            "hello", protocol=PROTOCOL, pid=os.getpid(), work=self.work, python=platform.python_version()
        )
        for target in (self.read, self.watch):
            threading.Thread(target=target, daemon=True).start()
        while True:
            self.do(self.jobs.get())

    def end(self, code: int) -> None:
        """Kills what runs, removes the work folder and exits."""
        self.children.kill()
        shutil.rmtree(self.work, ignore_errors=True)
        os._exit(code)

    def emit(self, event: str, **fields: Any) -> None:
        """Sends one event; a host that cannot be reached ends the agent."""
        try:
            self.channel.emit(event, **fields)
        except OSError:
            self.end(4)

    def sign_of_life(self) -> None:
        """Notes that the host is there."""
        self.last_sign = time.monotonic()

    def watch(self) -> None:
        """Ends the agent when the lease is over (own thread)."""
        while time.monotonic() - self.last_sign <= self.lease:
            time.sleep(min(1.0, self.lease / 4))
        self.end(5)

    def read(self) -> None:
        """Reads requests; the only place that reads stdin (own thread)."""
        for line in iter(self.requests.readline, b""):
            self.sign_of_life()
            try:
                self.accept(json.loads(line.decode("utf-8")))
            except EOFError:
                break
            except (ValueError, KeyError, TypeError) as error:
                self.emit("error", op="?", type="BadRequest", message="Not a request: %s." % error)
        self.end(3)

    def accept(self, request: Dict[str, Any]) -> None:
        """Does at once what may not wait for the running job, and queues the rest."""
        op = request["op"]
        if op == "ping":
            return
        if op == "cancel":
            self.cancelled.set()
            self.children.kill()
        elif op == "put":
            self.put(request)
        elif op == "lease":
            self.lease = float(request["seconds"])
            self.emit("done", op=op)
        else:
            self.jobs.put(request)

    def put(self, request: Dict[str, Any]) -> None:
        """Stores one file in the work folder."""
        path = os.path.join(self.work, os.path.basename(request["name"]))
        problem = inbox.receive(self.requests, path, request["size"], request["sha256"], self.sign_of_life)
        if problem:
            self.emit("error", op="put", type="Refused", message=problem)
        else:
            self.emit("done", op="put", name=request["name"])

    def do(self, request: Dict[str, Any]) -> None:
        """Does one queued request; whatever goes wrong becomes an error event."""
        op = request["op"]
        self.cancelled.clear()
        try:
            fields = self.perform(op, request)
        except Exception as error:  # the host must hear of everything that fails here
            self.emit("error", op=op, type=type(error).__name__, message=str(error)[:2000])
            return
        if self.cancelled.is_set():
            self.emit("cancelled", op=op)
        elif fields is not None:
            self.emit("done", op=op, **fields)

    def perform(self, op: str, request: Dict[str, Any]) -> Any:
        """The result of a request as fields of its done event; None when the failure was reported already."""
        if op == "bye":
            self.emit("done", op=op)
            self.end(0)
        if op == "probe":
            return {"facts": probe.facts(self.work)}
        if op == "tool":
            return tools.run(
                request["argv"], self.work, self.children, self.tool_line, request.get("fetch", ())
            )
        if op in MEASURING:
            return self.measure(request)
        raise ValueError("unknown request %r" % op)

    def tool_line(self, line: bytes) -> None:
        """Hands on one line that a tool printed."""
        self.emit("line", text=line.decode("utf-8", "replace").rstrip())

    def measure(self, request: Dict[str, Any]) -> Any:
        """Runs a request in a fresh process and hands on its events."""
        argv = [sys.executable, "-u", "-c", START, os.path.join(self.work, "agent.pyz")]
        code = self.children.run(argv, self.work, self.relay, json.dumps(request).encode("utf-8") + b"\n")
        if code == 0 or self.cancelled.is_set():
            return {}
        if code != REPORTED:
            self.emit("error", op=request["op"], type="Crashed", message=how_it_died(code))
        return None

    def relay(self, line: bytes) -> None:
        """Hands on an event of the measuring process, and nothing else that it may print."""
        if line.startswith(MARK):
            self.channel.relay(line)


def how_it_died(code: int) -> str:
    """What to tell of a measuring process that ended without a word."""
    if code == -signal.SIGKILL:
        return (
            "The measuring process was killed, most likely because the board ran out of memory. "
            "Use a smaller batch, stop other programs, or add swap."
        )
    if code < 0:
        return "The board's runtime crashed (signal %d)." % -code
    return "The measuring process ended with code %d and said nothing." % code
