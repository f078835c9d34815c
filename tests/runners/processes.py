"""Processes that others started, found in /proc."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def started_by(pid: int) -> list[int]:
    """The processes that a process started, as they are now."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        if parent == pid:
            found.append(int(stat.parent.name))
    return found


def kill_workers(agent: int) -> None:
    """Has the processes of an agent crash, as a runtime does."""
    for pid in started_by(agent):
        os.kill(pid, signal.SIGSEGV)


def gone(pid: int) -> bool:
    """True once a process has ended."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False
