"""Boards that hang: the lab's own command switches them off and on, and they are asked again until they answer."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from typing import TypeVar

from edgecr.core.errors import DeviceFailed, DeviceUnreachable
from edgecr.core.progress import Monitor
from edgecr.runners import stopping
from edgecr.runners.agent.events import shown
from edgecr.runners.device import PowerCycle

COMMAND_S = 120.0
PAUSE_S = 5.0
Started = TypeVar("Started")


def started_again(
    start: Callable[[], Started], cycle: PowerCycle | None, name: str, monitor: Monitor, pause_s: float = PAUSE_S
) -> Started:
    """The result of ``start``; a board that does not answer is switched off and on once, where a command for it exists.

    Other failures, such as a refused key, are none that power could mend.
    """
    try:
        return start()
    except DeviceUnreachable as error:
        if cycle is None:
            raise
        monitor.warn(f"{error} Switching {name} off and on: {' '.join(cycle.command)}")
        _run(cycle, name)
        return _patiently(start, cycle, name, pause_s)


def _run(cycle: PowerCycle, name: str) -> None:
    program, place = cycle.command[0], f"transport.power_cycle of {name}"
    if shutil.which(program) is None:
        raise DeviceFailed(f"{program} is not on this machine; {place} names it.")
    try:
        code, said, errors = stopping.ran(cycle.command, COMMAND_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeviceFailed(f"{place} failed: {error}") from error
    if code:
        words = shown((errors or said).strip() or "it said nothing", 400)
        raise DeviceFailed(f"{place} failed with exit code {code}: {words}.")


def _patiently(start: Callable[[], Started], cycle: PowerCycle, name: str, pause_s: float) -> Started:
    end = time.monotonic() + cycle.wait_s
    while True:
        stopping.pause(min(pause_s, max(0.0, end - time.monotonic())))
        try:
            return start()
        except DeviceUnreachable as error:
            if time.monotonic() >= end:
                raise DeviceUnreachable(
                    f"{name} was switched off and on, and did not answer within {cycle.wait_s:g} s. {error}"
                ) from error
