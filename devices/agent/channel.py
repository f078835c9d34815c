"""The output channel of the agent: JSON events on stdout, each a line that starts with the byte 0x1E."""

import json
import os
import threading
from typing import Any

MARK = b"\x1e"
PROTOCOL = 2


def protected_stdout() -> int:
    """A private copy of stdout; what libraries print goes to stderr from now on, beside the protocol."""
    copy = os.dup(1)
    os.dup2(2, 1)
    return copy


class Channel(object):
    """Writes events; whole lines only, whichever thread they come from."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.lock = threading.Lock()

    def emit(self, event: str, **fields: Any) -> None:
        """Sends one event with its fields."""
        fields["event"] = event
        self.relay(MARK + json.dumps(fields, sort_keys=True).encode("utf-8") + b"\n")

    def relay(self, line: bytes) -> None:
        """Sends a line that is an event already; OSError when nobody listens any more."""
        with self.lock:
            while line:
                line = line[os.write(self.descriptor, line) :]
