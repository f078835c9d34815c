"""One measuring process: does one request with one runtime loaded, and ends."""

import ctypes
import json
import os
import random
import re
import signal
import sys
import traceback
from typing import Any, Dict, Optional, Tuple

from . import answering, clock, measuring, memory, runtimes
from .channel import Channel
from .runtimes.base import Runtime

DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
REPORTED = 70  # exit code: failed, and the host was told why
NO_MEMORY = r"bad[ _]?alloc|failed to allocate|unable to allocate|out of memory"
FURTHER_CALLS = 2  # some runtimes still allocate in their second call


def run(line: bytes, channel: Channel) -> int:
    """Does the request and reports every failure as an event; returns the exit code."""
    op = "?"
    try:
        request = json.loads(line.decode("utf-8"))
        op = request["op"]
        {"bench": bench, "alone": alone, "layers": layers, "eval": answer}[op](request, channel)
    except Exception as error:  # the host must hear of everything that fails here
        channel.emit(
            "error",
            op=op,
            type=type(error).__name__,
            message=str(error)[:2000],
            trace=traceback.format_exc()[-3000:],
        )
        return REPORTED
    return 0


def follow(parent: int) -> None:
    """Makes the kernel end this process with its parent, even when that is killed."""
    try:
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    except (OSError, AttributeError):
        return
    if os.getppid() != parent:
        os._exit(3)


def bench(request: Dict[str, Any], channel: Channel) -> None:
    """Loads all arms, warms them up and times them in interleaved rounds."""
    arms = request["arms"]
    order = list(range(len(arms)))
    random.Random(request["seed"]).shuffle(order)  # the first arm to load pays for what all share
    loaded = {arm: load(arm, arms[arm], channel) for arm in order}
    calls = [loaded[arm].new_call() for arm in range(len(arms))]
    per_round = []
    for arm, call in enumerate(calls):
        warmth = measuring.warm_up(call, clock.now, **request["warmup"])
        channel.emit("warm", arm=arm, **warmth)
        per_round.append(measuring.per_round(warmth["medians_ns"][-1], request["round_s"]))
    measuring.rounds(calls, per_round, request, clock.now, clock.counters, clock.since, channel.emit)


def alone(request: Dict[str, Any], channel: Channel) -> None:
    """One arm with the process to itself: its memory, then its throughput with one or more streams."""
    runtime = load(request["arm"], request, channel)
    for streams in request["streams"]:
        calls = [runtime.new_call() for _ in range(streams)]
        for call in calls:
            call()
        rate = measuring.throughput(calls, request["seconds"], clock.now, clock.counters, clock.since)
        channel.emit("throughput", arm=request["arm"], **rate)


def layers(request: Dict[str, Any], channel: Channel) -> None:
    """One arm loaded to be profiled, apart from all that is measured: profiling slows it down."""
    config = dict(request["config"], profile=os.path.abspath("profile"))
    runtime = load(request["arm"], dict(request, config=config), channel)
    for layer in runtime.layers(request["calls"]):
        channel.emit("layer", arm=request["arm"], **layer)


def answer(request: Dict[str, Any], channel: Channel) -> None:
    """One arm that answers the host's batches until there are no more."""
    try:
        runtime = answering.opened(request)
    except Exception as error:  # each runtime has its own classes of errors
        raise CannotLoad(unloaded(request, error))
    answering.serve(runtime, channel, sys.stdin.buffer)


class CannotLoad(Exception):
    """An arm that the runtime refused; the message names the arm."""


def load(number: int, arm: Dict[str, Any], channel: Channel) -> Runtime:
    """Loads one arm and tells what that took."""
    try:
        runtime, report = start(arm)
    except Exception as error:  # each runtime has its own classes of errors
        raise CannotLoad(unloaded(arm, error))
    channel.emit("arm", arm=number, **report)
    return runtime


def unloaded(arm: Dict[str, Any], error: Exception) -> str:
    """The message for an arm that the runtime refused."""
    return "%s (%s, batch %d): %s" % (arm["label"], arm["runtime"], arm["batch"], reason(error))


def reason(error: Exception) -> str:
    """The runtime's own words, with what to do when it got no memory."""
    text = str(error) or type(error).__name__
    if isinstance(error, MemoryError) or re.search(NO_MEMORY, text, re.I):
        text += " That is more memory than the board can spare: use a smaller batch, or stop other programs."
    return text


def start(arm: Dict[str, Any]) -> Tuple[Runtime, Dict[str, Any]]:
    """The loaded runtime; times of import, load and first call; and peak memory before and after each."""
    kind = runtimes.find(arm["runtime"])
    stamps, peaks = [clock.now()], [peak_memory_kb()]

    def note() -> None:
        stamps.append(clock.now())
        peaks.append(peak_memory_kb())

    kind.import_library()
    if kind.on_processor(arm["config"]):
        memory.cap()
    note()
    runtime = kind(arm["model"], arm["config"], arm["batch"])
    call = runtime.new_call()
    note()
    call()
    note()
    for _ in range(FURTHER_CALLS):
        call()
    peaks[-1] = peak_memory_kb()
    steps = [after - before for before, after in zip(stamps, stamps[1:])]
    report: Dict[str, Any] = dict(zip(("import_ns", "load_ns", "first_ns"), steps))
    report["memory_kb"] = dict(zip(("empty", "imported", "loaded", "inferred"), peaks))
    report["info"] = runtime.info
    return runtime, report


def peak_memory_kb() -> Optional[int]:
    """The most memory this process ever held."""
    return memory.status_kb("VmHWM")
