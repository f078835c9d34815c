"""The lock of the whole board: one session measures at a time, whoever asks, so that none disturbs another.

Sessions that only answer share it with one another.

It is advisory, and the kernel gives it back when its agent ends, however that ends. Its place does not depend on
TMPDIR, since all users of the board must find the same one.
"""

import errno
import fcntl
import json
import os
import stat
import time
from typing import Any, Callable, Dict, Optional

PLACE = "/tmp/edgecr-board.lock"
ELSEWHERE = "EDGECR_BOARD_LOCK"  # for boards on which each login has a /tmp of its own
PAUSE_S = 0.5
MOST_TEXT = 2000


class Busy(Exception):
    """Somebody else measures on the board; the message says who."""


class BoardLock(object):
    """The lock as one agent sees it."""

    def __init__(self, path: Optional[str] = None) -> None:
        self.path = path or os.environ.get(ELSEWHERE) or PLACE
        self.held: Optional[int] = None

    def take(
        self,
        owner: Dict[str, Any],
        wait_s: float,
        shared: bool,
        on_wait: Callable[[Dict[str, Any]], None],
        stopped: Callable[[], bool],
    ) -> None:
        """Waits for the lock, tells once who has it, and writes down who has it now; Busy when that takes too long."""
        if self.held is not None:
            return
        descriptor, told, end = opened(self.path), False, time.monotonic() + wait_s
        try:
            while not locked(descriptor, shared):
                holder = written(descriptor)
                if time.monotonic() >= end or stopped():
                    raise Busy(busy(holder, wait_s))
                if not told:
                    on_wait(holder)
                    told = True
                time.sleep(PAUSE_S)
        except BaseException:
            os.close(descriptor)
            raise
        write(descriptor, dict(owner, since=time.time(), pid=os.getpid()))
        self.held = descriptor


def opened(path: str) -> int:
    """The lock file, made if need be, open to all users of the board; a link or a folder in its place is refused."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    for more in (0, os.O_CREAT | os.O_EXCL, 0):  # kernels refuse to create what another user's file is in /tmp already
        try:
            descriptor = os.open(path, flags | more, 0o666)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EEXIST):
                continue
            raise Busy("%s on the board cannot be opened as its lock (%s): remove it." % (path, error.strerror))
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise Busy("%s on the board is no file, so it cannot be its lock: remove it." % path)
        if more:
            os.fchmod(descriptor, 0o666)  # whatever the mask: others must be able to take it, too
        return descriptor
    raise Busy("%s on the board comes and goes; try again." % path)


def locked(descriptor: int, shared: bool) -> bool:
    """Takes the lock; False while another agent holds it."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise Busy("The file system of the board's lock knows no locks (%s); set %s." % (error.strerror, ELSEWHERE))
    return True


def write(descriptor: int, owner: Dict[str, Any]) -> None:
    """Writes down who holds the lock, for those that wait."""
    text = json.dumps(owner).encode("utf-8")
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text, 0)


def written(descriptor: int) -> Dict[str, Any]:
    """The words of the holder; nothing where that cannot be read."""
    try:
        found = json.loads(os.pread(descriptor, MOST_TEXT, 0).decode("utf-8"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def busy(holder: Dict[str, Any], wait_s: float) -> str:
    """The message for a board that did not become free."""
    since = holder.get("since")
    known = isinstance(since, (int, float))
    return "The board is in use by %s (%s%s); waited %g s. Try again later, or raise transport.lock_wait_s." % (
        holder.get("who", "somebody"),
        holder.get("what", "measuring"),
        ", for %d s now" % max(0, time.time() - float(since)) if known else "",
        wait_s,
    )
