"""The entry points of the agent: the supervisor (``main``) and one measuring process (``measure``)."""

import os
import sys
from typing import BinaryIO

from .channel import Channel, protected_stdout
from .supervisor import Supervisor
from .worker import follow, run


def main(requests: BinaryIO, work: str) -> None:
    """Serves the host until it leaves: requests on the stream, events on stdout, files in the work folder."""
    Supervisor(requests, Channel(protected_stdout()), work).serve()


def measure() -> None:
    """One measuring process: the first argument is the archive, the second its parent; its request is on stdin."""
    follow(int(sys.argv[2]))
    code = run(sys.stdin.buffer.readline(), Channel(protected_stdout()))
    os._exit(code)  # some runtimes crash while they are torn down, after all was said
