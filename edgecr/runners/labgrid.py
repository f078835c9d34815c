"""Boards of a labgrid lab: reserved, acquired and released by labgrid's own client, reached by the system's ``ssh``.

labgrid's own ``ssh`` is not used: it takes any host key. The connection is the one of every other board.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import shutil
import subprocess
import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgecr.core.errors import DeviceFailed, NotConfigured
from edgecr.runners import stopping
from edgecr.runners.agent.events import shown
from edgecr.runners.agent.protocol import Connection
from edgecr.runners.base import runners
from edgecr.runners.device import Device, LabgridTransport
from edgecr.runners.ssh import SshRunner

CLIENT = "labgrid-client"
COMMAND_S = 60.0
SERVICE = re.compile(r"^Acquired resource '[^'\n]*' \([^\n]*/NetworkService/[^\n]*\):\n((?:[ \t]+.*\n?)+)", re.M)
TOKEN = re.compile(r"LG_TOKEN=([A-Za-z0-9]+)")


@dataclass
class _Hold:
    """A place that this process has acquired, for all of its sessions there."""

    place: str
    environment: dict[str, str]
    sessions: int = 0


_holds: dict[str, _Hold] = {}
_changing: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)
"""One for each place or set of tags: who waits for one holds up no other."""


@runners.register("labgrid")
class LabgridRunner(SshRunner):
    """Holds a place while it has sessions there; those of one process share it."""

    transport: LabgridTransport

    def __init__(self, device: Device) -> None:
        super().__init__(device)
        if not isinstance(device.transport, LabgridTransport):
            raise NotConfigured(f"Device {device.name!r} is not declared with 'transport: {{kind: labgrid, ...}}'.")
        self._address: list[str] = []
        self._asked = json.dumps([device.transport.place, device.transport.tags, device.transport.coordinator])

    def named_host(self) -> str:
        """The board's ssh name; without one the place's address, which is only known once it is acquired."""
        return self.transport.host or ""

    def command(self) -> list[str]:
        """The whole command line, to the address of the acquired place."""
        ssh, *rest = super().command()
        return [ssh, *self._address, *rest]

    def start(self) -> Connection:
        """Acquires the place, logs in and starts the agent; the end of the last session releases the place."""
        hold = self._hold()
        try:
            if self.transport.host is None:
                self._take_address(hold)
        except BaseException:
            self.after()
            raise
        return super().start()

    def after(self) -> None:
        """Releases the place, unless other sessions of this process still hold it."""
        with _changing[self._asked]:
            hold = _holds[self._asked]
            hold.sessions -= 1
            if hold.sessions == 0:
                del _holds[self._asked]
                self._release(hold)

    def _hold(self) -> _Hold:
        with _changing[self._asked]:
            if self._asked not in _holds:
                _holds[self._asked] = self._acquired()
            _holds[self._asked].sessions += 1
            return _holds[self._asked]

    def _acquired(self) -> _Hold:
        if self.transport.place is not None:
            hold = _Hold(self.transport.place, {})
        else:
            filters = [f"{key}={value}" for key, value in self.transport.tags.items()]
            told = self._ask(["reserve", "--wait", "--shell", *filters], {}, self.transport.reserve_wait_s)
            token = TOKEN.search(told)
            if token is None:
                raise DeviceFailed(f"{CLIENT} reserve gave no token: {shown(told, 200)}.")
            hold = _Hold("+", {"LG_TOKEN": token[1]})
        try:
            self._ask(["-p", hold.place, "acquire"], hold.environment, COMMAND_S)
        except BaseException:
            self._forget(hold)
            raise
        return hold

    def _take_address(self, hold: _Hold) -> None:
        found = service(self._ask(["-p", hold.place, "show"], hold.environment, COMMAND_S))
        self.host = str(found["address"])
        self._address = ["-p", str(found["port"]), "-l", str(found["username"])]

    def _release(self, hold: _Hold) -> None:
        going_on = stopping.stop.set(None)  # what was taken is given back, although the work was stopped
        try:
            with contextlib.suppress(DeviceFailed):  # nothing more can be done, and the coordinator shows who holds it
                self._ask(["-p", hold.place, "release"], hold.environment, COMMAND_S)
            self._forget(hold)
        finally:
            stopping.stop.reset(going_on)

    def _forget(self, hold: _Hold) -> None:
        """Cancels a reservation."""
        if token := hold.environment.get("LG_TOKEN"):
            with contextlib.suppress(DeviceFailed):
                self._ask(["cancel-reservation", token], {}, COMMAND_S)

    def _ask(self, arguments: list[str], environment: Mapping[str, str], limit_s: float) -> str:
        """The output of the client for a command."""
        if shutil.which(CLIENT) is None:
            raise DeviceFailed(f"{CLIENT} is not installed on this machine: pip install labgrid.")
        where = ["-x", self.transport.coordinator] if self.transport.coordinator else []
        try:
            code, said, errors = stopping.ran([CLIENT, *where, *arguments], limit_s, {**os.environ, **environment})
        except subprocess.TimeoutExpired:
            raise DeviceFailed(
                f"labgrid gave no place within {limit_s:g} s ({' '.join(arguments)}). Look who holds it: {CLIENT} who."
            ) from None
        except OSError as error:
            raise DeviceFailed(f"{CLIENT} does not start: {error}.") from error
        if code:
            words = shown((errors or said).strip(), 400).removeprefix("labgrid-client: Error: ")
            raise DeviceFailed(f"labgrid refused {' '.join(arguments)!r}: {words or 'it said nothing'}")
        return said


def service(text: str) -> dict[str, Any]:
    """The parameters of the network service in what ``labgrid-client show`` prints."""
    found = SERVICE.search(text)
    try:
        params = ast.literal_eval(found[1].strip())["params"] if found else {}
        address, port, user = str(params["address"]), int(params["port"]), str(params["username"])
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError):
        raise DeviceFailed(
            "The labgrid place has no NetworkService with address, port and username. Add one to it, or set "
            "transport.host to the board's ssh name."
        ) from None
    if not re.fullmatch(r"[A-Za-z0-9_.:][A-Za-z0-9_.:-]*", address) or not re.fullmatch(r"[A-Za-z0-9_][\w.-]*", user):
        raise DeviceFailed(f"labgrid's NetworkService has no usable address: {shown(address, 80)!r}.")
    return {"address": address, "port": port, "username": user}
