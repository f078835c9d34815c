"""Measures on this machine; the agent is a process of its own, started exactly as on a board."""

from __future__ import annotations

import sys

from edgecr.runners.archive import BOOT
from edgecr.runners.base import runners
from edgecr.runners.protocol import Connection
from edgecr.runners.session import AgentRunner

HELLO_S = 60.0


@runners.register("local")
class LocalRunner(AgentRunner):
    """Runs the agent with this Python."""

    def connect(self) -> Connection:
        """Starts the agent as a child process."""
        transport = self.device.transport
        return Connection(
            [sys.executable, "-u", "-c", BOOT], env=transport.env, lease_s=transport.lease_s, hello_s=HELLO_S
        )
