"""Power from ``tegrastats``, for Jetsons whose sensors this user may not read directly."""

import re
import threading
import time
from typing import Dict, List, Optional, Tuple

from . import clock, tools
from .children import Children

PERIOD_MS = 100
LATEST_S, PAUSE_S = 0.5, 0.01
# A rail and its power now, then its average, and on newer boards its maximum; older ones write no unit.
RAIL = re.compile(r"(?<![\w@/])([A-Z][A-Z0-9_]*) (-?\d+)(?:mW)?/-?\d+(?:mW)?(?:/-?\d+(?:mW)?)?(?![\w%/@])")
AMOUNTS = re.compile(r"\b(?:RAM|SWAP|IRAM) \d+/\d+[kM]B")


def rails(line: str) -> Dict[str, float]:
    """Milliwatts of each rail in one line."""
    return {name: float(power) for name, power in RAIL.findall(AMOUNTS.sub("", line)) if name != "NC"}


class Tegrastats(object):
    """A running ``tegrastats``; every line is one reading, stamped when it arrives."""

    source, unit, period_s = "tegrastats", "mw", PERIOD_MS / 1000.0

    def __init__(self) -> None:
        self.children, self.over = Children(), threading.Event()
        self.lines: List[Tuple[int, Dict[str, float]]] = []
        self.thread = threading.Thread(target=self.follow, daemon=True)

    def start(self) -> None:
        """Starts the tool."""
        self.thread.start()

    def follow(self) -> None:
        """Reads the tool's lines until it ends; runs in its own thread."""
        argv = [tools.find("tegrastats"), "--interval", str(PERIOD_MS)]
        self.children.run(argv, "/", self.keep, self.over.is_set)

    def keep(self, line: bytes) -> None:
        """Keeps one line's reading."""
        found = rails(line.decode("utf-8", "replace"))
        if found:
            self.lines.append((clock.now(), found))

    def take(self) -> List[Tuple[int, Dict[str, Optional[float]]]]:
        """The readings since the last call."""
        count = len(self.lines)
        taken, self.lines[:count] = self.lines[:count], []
        return [(at, dict(found)) for at, found in taken]

    def settle(self) -> None:
        """Waits for one line more: what was computed after the last one would have no power."""
        asked, end = clock.now(), time.monotonic() + LATEST_S
        while time.monotonic() < end and self.thread.is_alive():
            if self.lines and self.lines[-1][0] >= asked:
                return
            time.sleep(PAUSE_S)

    def stop(self) -> None:
        """Ends the tool."""
        self.over.set()
        self.children.kill()
        if self.thread.ident is not None:
            self.thread.join(1.0)
