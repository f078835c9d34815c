"""Work folders: each has a lock that its agent holds until it ends, however it ends."""

import fcntl
import os
import shutil
import stat
import time
from typing import Optional

PREFIX = "edgecr-agent-"
LOCK = "lock"
YOUNG_S = 3600.0  # a folder without a lock may belong to an agent that is only just starting
TRIES, PAUSE_S = 50, 0.02


def hold(folder: str) -> Optional[int]:
    """Takes a folder's lock for the life of this process; the kernel gives it back even after a kill."""
    path = os.path.join(folder, LOCK)
    descriptor = os.open(path + ".new", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    held = locked(descriptor)
    os.rename(path + ".new", path)  # it only appears once it is held
    return descriptor if held else None


def locked(descriptor: int) -> bool:
    """Takes the lock of an open file; False when another process holds it, or the file system knows no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def sweep(parent: str) -> None:
    """Removes the work folders that killed agents of this user left; those of living ones stay."""
    try:
        names = os.listdir(parent)
    except OSError:
        return
    for name in names:
        folder = os.path.join(parent, name)
        if name.startswith(PREFIX) and is_own(folder) and is_abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)


def is_own(folder: str) -> bool:
    """True for a real folder of this user; a link is never followed."""
    try:
        found = os.lstat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def is_abandoned(folder: str) -> bool:
    """True when nobody holds the folder's lock; without one, when it is too old to be starting."""
    try:
        descriptor = os.open(os.path.join(folder, LOCK), os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return time.time() - changed(folder) > YOUNG_S
    except OSError:
        return False
    try:
        return locked(descriptor)
    finally:
        os.close(descriptor)


def changed(folder: str) -> float:
    """The time of a folder's last change; now, when it is gone."""
    try:
        return os.lstat(folder).st_mtime
    except OSError:
        return time.time()


def remove(folder: str) -> None:
    """Removes a folder, also while a program that was just killed still lets go of it."""
    for _ in range(TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.lexists(folder):
            return
        time.sleep(PAUSE_S)
