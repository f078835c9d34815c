"""The turn at a board: one session has it at a time, and who waits is told whom for."""

from __future__ import annotations

import getpass
import socket
from typing import TYPE_CHECKING

from edgecr.core.progress import Monitor
from edgecr.runners.agent.events import shown
from edgecr.runners.device import BoardTransport, Device

if TYPE_CHECKING:
    from edgecr.runners.agent.protocol import Connection


def take_turn(agent: Connection, device: Device, purpose: str, monitor: Monitor, shared: bool = False) -> None:
    """Waits until nobody else measures on the board; DeviceFailed after the device's patience.

    Sessions that only answer share their turn. This machine needs none: what else runs on it is seen by the probe.
    """
    if not isinstance(device.transport, BoardTransport):
        return
    told: set[str] = set()
    owner = {"who": f"{_user()}@{socket.gethostname()}", "what": purpose}
    for event in agent.request("lock", owner=owner, wait_s=device.transport.lock_wait_s, shared=shared):
        if event["event"] == "waiting":
            line = _told(device, event.get("holder"))
            if line not in told:
                monitor.say(line)
            told.add(line)


def _told(device: Device, holder: object) -> str:
    found = holder if isinstance(holder, dict) else {}
    who, what = (shown(str(found.get(key) or "somebody"), 80) for key in ("who", "what"))
    return f"Waiting for {device.name}: {who} is using it ({what})."


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may have no name for its user
        return "somebody"
