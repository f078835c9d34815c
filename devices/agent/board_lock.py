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
TOLD_S = 60.0  # the host counts silence
MOST_TEXT = 2000
MOST_WORDS = 200
BEGIN = b"EdgeCR's lock of this board "


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
        """Waits for the lock, tells now and then who has it, and writes down who has it now; Busy after too long."""
        if self.held is not None:
            return
        descriptor, tell, end = opened(self.path), 0.0, time.monotonic() + wait_s
        try:
            while not locked(descriptor, shared):
                holder = written(descriptor)
                if time.monotonic() >= end or stopped():
                    raise Busy(busy(holder, wait_s))
                if time.monotonic() >= tell:
                    on_wait(holder)
                    tell = time.monotonic() + TOLD_S
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
        if not is_a_lock(descriptor):
            os.close(descriptor)
            raise Busy("%s on the board is something else than its lock: remove it." % path)
        if more:
            os.fchmod(descriptor, 0o666)  # whatever the mask: others must be able to take it, too
        return descriptor
    raise Busy("%s on the board comes and goes; try again." % path)


def is_a_lock(descriptor: int) -> bool:
    """True for a file of one name that is empty or says who holds it: nothing else is ever written over."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        return False
    return found.st_size == 0 or os.pread(descriptor, len(BEGIN), 0) == BEGIN


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
    text = BEGIN + json.dumps(owner).encode("utf-8")
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text, 0)


def written(descriptor: int) -> Dict[str, Any]:
    """The words of the holder, which any user of the board may have written; nothing where they cannot be read."""
    try:
        found = json.loads(os.pread(descriptor, MOST_TEXT, 0)[len(BEGIN) :].decode("utf-8"))
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    kept = {key: found[key][:MOST_WORDS] for key in ("who", "what") if isinstance(found.get(key), str)}
    since = found.get("since")
    known = isinstance(since, (int, float)) and 0 <= since < 1e12  # what is no number compares with none
    return dict(kept, since=float(since)) if known else kept


def busy(holder: Dict[str, Any], wait_s: float) -> str:
    """The message for a board that did not become free."""
    since = holder.get("since")
    return "The board is in use by %s (%s%s); waited %g s. Try again later, or raise transport.lock_wait_s." % (
        holder.get("who", "somebody"),
        holder.get("what", "measuring"),
        ", for %d s now" % max(0, time.time() - since) if since is not None else "",
        wait_s,
    )
