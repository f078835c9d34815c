"""Measures on this machine; the agent is a process of its own, started exactly as on a board."""

from __future__ import annotations

import sys
from typing import ClassVar

from edgecr.runners.agent.archive import BOOT
from edgecr.runners.agent.protocol import Connection
from edgecr.runners.agent.runner import AgentRunner
from edgecr.runners.base import runners

HELLO_S = 60.0


@runners.register("local")
class LocalRunner(AgentRunner):
    """Runs the agent with this Python."""

    on_this_machine: ClassVar[bool] = True

    def start(self) -> Connection:
        """Starts the agent as a child process."""
        transport = self.device.transport
        return Connection(
            [sys.executable, "-u", "-c", BOOT], env=transport.env, lease_s=transport.lease_s, hello_s=HELLO_S
        )
