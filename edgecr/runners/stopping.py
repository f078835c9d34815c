"""The end of work that runs in several threads: waits end early, and nothing new begins."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar

from edgecr.core.errors import DeviceFailed

LOOK_S = 0.2
stop: ContextVar[threading.Event | None] = ContextVar("stop", default=None)
"""Set in the threads of work that may be stopped as a whole."""


def check() -> None:
    """DeviceFailed once the work that this thread is part of was stopped."""
    event = stop.get()
    if event is not None and event.is_set():
        raise DeviceFailed("It was stopped.")


def pause(seconds: float) -> None:
    """Sleeps for so long; DeviceFailed as soon as the work is stopped."""
    event = stop.get()
    if event is None:
        time.sleep(seconds)
    else:
        event.wait(seconds)
        check()


def ran(command: Sequence[str], limit_s: float, env: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """Runs a program without a shell: its exit code and what it said. It ends when the work is stopped.

    TimeoutExpired after the limit; OSError where it does not start.
    """
    end = time.monotonic() + limit_s
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
    ) as process:
        try:
            while True:
                try:
                    said, errors = process.communicate(timeout=LOOK_S)
                    return process.returncode, said.decode("utf-8", "replace"), errors.decode("utf-8", "replace")
                except subprocess.TimeoutExpired:
                    check()
                    if time.monotonic() >= end:
                        raise
        except BaseException:
            process.kill()
            raise
