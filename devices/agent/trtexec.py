"""TensorRT by the board's own trtexec: runs of it with their counters, and engines that are built once and kept."""

import hashlib
import json
import os
import re
import resource
import threading
from typing import Any, Callable, Dict, List, Optional

from . import cache, clock, inbox, tools
from .children import Children
from .tree import read

OPS = ("trtexec", "engine")
NAME = "trtexec"
TOLD_S = 5.0  # between two signs of life; the host takes a silent board for dead
LOOK_S = 0.05  # between two looks at how long the program waits for a processor
MOST_LOG = 200000  # characters of the end of a log
MOST_FILE = 32 << 20  # bytes of a file that trtexec wrote
PLACE = re.compile(r"(--[^@]*[=:])@(.*)")  # a file of the work folder
MEMORY = ("MemTotal", "MemAvailable", "SwapFree", "CmaTotal", "CmaFree")

Emit = Callable[..., None]
Stopped = Callable[[], bool]


class ToolProblem(Exception):
    """A request that trtexec cannot serve on this board; the message says what to do."""


def perform(request: Dict[str, Any], work: str, children: Children, emit: Emit, stopped: Stopped) -> Dict[str, Any]:
    """Does one of the requests of this module; returns the fields of its done event."""
    runner = Trtexec(request, work, children, emit, stopped)
    return engine(request, work, runner) if request["op"] == "engine" else runner.run()


def engine(request: Dict[str, Any], work: str, runner: "Trtexec") -> Dict[str, Any]:
    """Puts an engine into the work folder: the one that was built for the same key before, or a new one."""
    path = inbox.place(work, request["engine"])
    notes: List[str] = []
    os.makedirs(os.path.dirname(path), exist_ok=True)
    engines, timing = opened("engines", request, notes), opened("timing", request, notes)
    about = None if request["anew"] else taken(engines, request["key"], path)
    if about is not None:
        return dict(about, cached=True, notes=notes, **described(path))
    measured = inbox.place(work, request["timing_cache"])
    if timing:
        timing.take(request["timing"], measured)
    told = runner.run()
    if told["code"] != 0 or not os.path.isfile(path):
        return dict(told, cached=False, notes=notes, memory=memory_now())
    about = {key: told[key] for key in ("seconds", "code", "log", "log_sha256")}
    if timing and os.path.isfile(measured):
        note(notes, timing.store(request["timing"], measured))
    if engines:
        kept(engines, request["key"], path, about, notes)
    return dict(about, cached=False, notes=notes, **described(path))


def opened(namespace: str, request: Dict[str, Any], notes: List[str]) -> Optional[cache.Cache]:
    """A namespace of the board's cache; None, with a note, where it may not be used."""
    if not request["cache"]:
        return None
    try:
        return cache.Cache(namespace, request["budget_mb"])
    except cache.CacheProblem as problem:
        note(notes, str(problem))
        return None


def taken(engines: Optional[cache.Cache], key: str, path: str) -> Optional[Dict[str, Any]]:
    """The record of a kept engine, which is now at the path; None where there is none that is whole."""
    record = engines.find(record_key(key)) if engines else None
    if engines is None or record is None:
        return None
    try:
        with open(record, encoding="utf-8") as file:
            about = json.load(file)
    except (OSError, ValueError):
        return None
    return about if isinstance(about, dict) and engines.take(key, path) else None


def kept(engines: cache.Cache, key: str, path: str, about: Dict[str, Any], notes: List[str]) -> None:
    """Keeps an engine with the record of its build; the record comes last, so that it never stands alone."""
    problem = engines.store(key, path)
    if problem is None:
        record = path + ".json"
        with open(record, "w", encoding="utf-8") as file:
            json.dump(about, file)
        problem = engines.store(record_key(key), record)
    note(notes, problem)


def record_key(key: str) -> str:
    """The key of what is recorded of an engine."""
    return hashlib.sha256(("record of " + key).encode("utf-8")).hexdigest()


def note(notes: List[str], problem: Optional[str]) -> None:
    """Adds a problem once, if there is one."""
    if problem and problem not in notes:
        notes.append(problem)


def described(path: str) -> Dict[str, Any]:
    """Size and hash of an engine."""
    return {"size": os.path.getsize(path), "sha256": cache.digest_of(path, None)}


def memory_now() -> Dict[str, int]:
    """Kilobytes of memory; builders need a part of it in one piece (CMA) on small boards."""
    found = re.findall(r"^(\w+):\s+(\d+) kB", read("/proc/meminfo") or "", re.M)
    return {name: int(value) for name, value in found if name in MEMORY}


def path_of(tool: Optional[str]) -> str:
    """The path of trtexec: the one that the device declares, or the one that is on this board."""
    if tool is None:
        try:
            return tools.find(NAME)
        except tools.NotAllowed:
            raise ToolProblem(
                "trtexec not found on the board (looked on PATH and in %s). It is usually "
                "/usr/src/tensorrt/bin/trtexec, of the package tensorrt or libnvinfer-bin; "
                "set runtimes.tensorrt.tool where it is elsewhere." % ", ".join(tools.ELSEWHERE)
            )
    if not os.access(tool, os.X_OK):
        raise ToolProblem("%s is no program on the board; correct runtimes.tensorrt.tool." % tool)
    return tool


class Trtexec(object):
    """One run of trtexec."""

    def __init__(self, request: Dict[str, Any], work: str, children: Children, emit: Emit, stopped: Stopped) -> None:
        self.request, self.work, self.children = request, work, children
        self.emit, self.stopped = emit, stopped
        self.log: List[str] = []
        self.marks: Dict[str, int] = {}
        self.waited: Optional[int] = None
        self.late = False
        self.ended = threading.Event()

    def run(self) -> Dict[str, Any]:
        """Runs it to its end or to its time limit: exit code, log, files it wrote, and who wanted the processor."""
        command = [path_of(self.request["tool"])] + [self.expanded(one) for one in self.request["argv"]]
        before, steal, start = resource.getrusage(resource.RUSAGE_CHILDREN), clock.steal("/proc/stat"), clock.now()
        watching = threading.Thread(target=self.watch, args=(start,), daemon=True)
        watching.start()
        try:
            code = self.children.run(command, self.work, self.heard, self.stopped, errors_too=True)
        finally:
            self.ended.set()
            watching.join()
        elapsed, after = clock.now() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        return {
            "code": code,
            "late": self.late,
            "seconds": elapsed / 1e9,
            "marks": self.marks,
            "log": "\n".join(self.log)[-MOST_LOG:],
            "log_sha256": hashlib.sha256("\n".join(self.log).encode("utf-8")).hexdigest(),
            "files": {name: text_of(inbox.place(self.work, name)) for name in self.request["fetch"]},
            "program": {
                "elapsed_ns": elapsed,
                "run_ns": int(1e9 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)),
                "wait_ns": self.waited,
                "switches": after.ru_nivcsw - before.ru_nivcsw,
                "steal": clock.difference(steal, clock.steal("/proc/stat")),
            },
        }

    def expanded(self, argument: str) -> str:
        """``--onnx=@m/model.onnx`` with the path in the work folder, made ready; other arguments as they are."""
        found = PLACE.match(argument)
        if found is None:
            return argument
        path = inbox.place(self.work, found.group(2))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return found.group(1) + path

    def heard(self, line: bytes) -> None:
        """Keeps one line of what it prints, and the moment when one came that the host asks for."""
        now, text = clock.now(), line.decode("utf-8", "replace").rstrip()
        self.log.append(text)
        for mark in self.request.get("marks", ()):
            if mark in text:
                self.marks.setdefault(mark, now)

    def watch(self, start: int) -> None:
        """Own thread: tells that it still runs, notes how long it waits for a processor, ends it when it is late."""
        told = 0
        while not self.ended.wait(LOOK_S):
            seconds = (clock.now() - start) / 1e9
            self.look()
            if seconds > self.request["timeout_s"] and not self.late:
                self.late = True
                self.children.kill()
            if seconds > (told + 1) * TOLD_S:
                told = int(seconds / TOLD_S)
                self.emit("running", seconds=seconds, text=self.log[-1] if self.log else "")

    def look(self) -> None:
        """Reads what its threads have waited so far; what one waited that has ended is not in it."""
        process = self.children.process
        _, wait = clock.schedule("/proc/%d/task" % process.pid) if process else (None, None)
        if wait is not None:
            self.waited = max(wait, self.waited or 0)


def text_of(path: str) -> Optional[str]:
    """The text of a file that trtexec wrote; None where it did not."""
    if os.path.exists(path) and os.path.getsize(path) > MOST_FILE:
        raise ToolProblem(
            "trtexec wrote more than %d MB of times; lower protocol.round_s or protocol.throughput.seconds."
            % (MOST_FILE >> 20)
        )
    found: Optional[str] = tools.text_of(path)
    return found
