"""Processes that the agent starts; none outlives it."""

import os
import signal
import subprocess
import threading
from typing import IO, Callable, List, Optional

NOT_STARTED = -signal.SIGKILL  # as if it had been killed at once


class Children(object):
    """Starts one process at a time, hands on its lines, and can kill it with everything it started."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # a signal may interrupt its holder
        self.process: "Optional[subprocess.Popen[bytes]]" = None

    def run(
        self,
        argv: List[str],
        folder: str,
        on_line: Callable[[bytes], None],
        stopped: Callable[[], bool],
        text: bytes = b"",
        errors_too: bool = False,
        more: bool = False,
    ) -> int:
        """Runs a program (no shell) with ``text`` on stdin; returns its exit code, negative for a signal.

        ``more`` leaves stdin open for ``tell``.
        ``stopped`` is asked once the process can be killed: whoever wanted it stopped before has not been heard.
        """
        if stopped():
            return NOT_STARTED
        process = subprocess.Popen(
            argv,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if errors_too else None,
            start_new_session=True,
        )
        with self.lock:
            self.process = process
        try:
            if stopped():
                self.kill()
            feed(process, text, last=not more)
            for line in iter(pipe(process.stdout).readline, b""):
                on_line(line)
            return process.wait()
        finally:
            self.kill()
            feed(process, b"")
            pipe(process.stdout).close()
            process.wait()
            with self.lock:
                self.process = None

    def tell(self, text: bytes, last: bool = False) -> None:
        """Writes to the running process, and closes its stdin after the last words; without one it is forgotten."""
        with self.lock:
            process = self.process
        if process is not None:  # written without the lock: whoever kills the process must not wait for it to read
            feed(process, text, last)

    def kill(self) -> None:
        """Ends the running process and its children, if there is one."""
        with self.lock:
            if self.process is not None and self.process.returncode is None:
                try:
                    os.killpg(self.process.pid, signal.SIGKILL)
                except OSError:
                    pass


def feed(process: "subprocess.Popen[bytes]", text: bytes, last: bool = True) -> None:
    """Writes to the stdin of a process, which may have ended already, and closes it after the last words."""
    stdin = pipe(process.stdin)
    try:
        if text:
            stdin.write(text)
            stdin.flush()
        if last:
            stdin.close()
    except (OSError, ValueError):  # its end, or it was closed before
        pass


def pipe(stream: Optional[IO[bytes]]) -> IO[bytes]:
    """A stream that was asked for when the process was started."""
    if stream is None:
        raise ValueError("the process was started without this pipe")
    return stream
