"""Files that stay on a board from session to session, under the user's own cache folder.

An entry is one file; its name holds its key and the hash of its content, so that one rename makes both appear. What
does not have that hash any more, say after a power cut, is removed and counts as absent.
"""

import errno
import hashlib
import os
import re
import shutil
import stat
import time
from typing import BinaryIO, Dict, List, NamedTuple, Optional

from . import inbox

SHARING = {"engines": ("engines", "timing"), "timing": ("engines", "timing"), "uploads": ("uploads",)}
NAMESPACES = tuple(sorted(SHARING))
BUDGET_MB = 2048
NAME_OF_ALL = "edgecr-board"
YOUNG_S = 3600.0  # an unfinished file may belong to another agent that still writes it
BLOCK = 1 << 20
KEY = re.compile(r"[0-9a-f]{16,64}\Z")
NAME = re.compile(r"([0-9a-f]{16,64})\.([0-9a-f]{64})\Z")
UNFINISHED = "new-"
READ_ONLY = 0o400  # who writes into an entry by mistake is told, unless it is root

Entry = NamedTuple("Entry", [("path", str), ("key", str), ("sha256", str), ("size", int), ("used", float)])


class CacheProblem(Exception):
    """A cache folder that may not be used; the message says what to do."""


def root() -> str:
    """The folder of all that EdgeCR keeps on this board; not the one of EdgeCR itself, should that be here, too."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return os.path.join(base if os.path.isabs(base) else os.path.join(os.path.expanduser("~"), ".cache"), NAME_OF_ALL)


class Cache(object):
    """One namespace of the cache; engines and their timings share a budget, uploads have one of their own."""

    def __init__(self, namespace: str, budget_mb: int = BUDGET_MB, folder: Optional[str] = None) -> None:
        if namespace not in NAMESPACES:
            raise ValueError("%r is no namespace of the cache, only %s" % (namespace, ", ".join(NAMESPACES)))
        self.root = folder or root()
        self.folder, self.budget = os.path.join(self.root, namespace), budget_mb << 20
        for one in (self.root, self.folder):
            own_folder(one)

    def find(self, key: str) -> Optional[str]:
        """The path of an entry that is whole, to be read only; it now counts as used."""
        return self.search(key, None)

    def take(self, key: str, target: str) -> bool:
        """Copies an entry to a new file that may be changed; False when there is none that is whole."""
        return self.search(key, target) is not None

    def search(self, key: str, target: Optional[str]) -> Optional[str]:
        """The newest entry of a key whose content has its hash; every other one is removed."""
        found = None
        for entry in sorted(self.entries(checked(key)), key=lambda entry: -entry.used):
            if found is None and is_whole(entry, target):
                found = entry.path
                touch(found)
            else:
                discard(entry.path)
        if target and found is None:
            discard(target)
        return found

    def store(self, key: str, source: str) -> Optional[str]:
        """Keeps a copy of a file under a key, in place of what it held; says why not, where that cannot be."""
        size, name = os.stat(source).st_size, checked(key)
        if size > self.budget:
            return "%d MB are more than the cache may hold (%d MB)." % (size >> 20, self.budget >> 20)
        self.make_room(size)
        unfinished = os.path.join(self.folder, UNFINISHED + os.urandom(16).hex())
        try:
            problem = inbox.lack_of_space(self.folder, size, "XDG_CACHE_HOME")
            if problem is None:
                digest = copied(source, unfinished)
                final = os.path.join(self.folder, "%s.%s" % (name, digest))
                os.rename(unfinished, final)
                self.forget(name, final)
        except OSError as error:
            problem = "%s cannot be written: %s." % (self.folder, error.strerror)
        discard(unfinished)
        return problem

    def forget(self, key: str, but: Optional[str] = None) -> None:
        """Removes what a key holds, except for one path."""
        for entry in self.entries(checked(key)):
            if entry.path != but:
                discard(entry.path)

    def entries(self, key: str) -> List[Entry]:
        """The entries of a key: one, unless an agent was killed while it replaced it."""
        return [entry for entry in entries_of(self.folder) if entry.key == key]

    def make_room(self, size: int) -> None:
        """Removes what was not used for longest, of all that shares the budget, until so many bytes fit."""
        folders = [os.path.join(self.root, name) for name in SHARING[os.path.basename(self.folder)]]
        for folder in folders:
            remove_unfinished(folder)
        entries = sorted((entry for folder in folders for entry in entries_of(folder)), key=lambda entry: entry.used)
        total = sum(entry.size for entry in entries)
        for entry in entries:
            if total + size <= self.budget:
                return
            discard(entry.path)
            total -= entry.size


def clear(folder: Optional[str] = None) -> int:
    """Removes the whole cache; returns how many bytes that were."""
    where = folder or root()
    if not os.path.lexists(where):
        return 0
    refuse_foreign(where)
    size = sum(entry.size for name in NAMESPACES for entry in entries_of(os.path.join(where, name)))
    shutil.rmtree(where)
    return size


def own_folder(path: str) -> None:
    """Makes a folder that nobody else may enter; one that is there already must be such a folder."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.mkdir(path, 0o700)
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise CacheProblem(
                "%s cannot be made on the board: %s. Set transport.env.XDG_CACHE_HOME to a folder where it can."
                % (path, error.strerror)
            )
    refuse_foreign(path)


def refuse_foreign(path: str) -> None:
    """Raises for anything but a real folder of this user that is closed to others: what it holds would be trusted."""
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise CacheProblem("%s on the board is no folder of your own: remove it, and look who made it." % path)
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise CacheProblem(
            "%s on the board is open to other users, who may have put files there: remove it, or, if nobody else "
            "uses this board, chmod 700 it." % path
        )


def checked(key: str) -> str:
    """A key: 16 to 64 hexadecimal digits, which cannot lead anywhere else."""
    if not KEY.match(key):
        raise ValueError("%r is not a key of the cache" % key)
    return key


def entries_of(folder: str) -> List[Entry]:
    """Every finished entry of a namespace; only real files count."""
    found = []
    for name, state in files_of(folder).items():
        match = NAME.match(name)
        if match:
            path = os.path.join(folder, name)
            found.append(Entry(path, match.group(1), match.group(2), state.st_size, state.st_mtime))
    return found


def remove_unfinished(folder: str) -> None:
    """Removes what killed agents had begun to write."""
    for name, state in files_of(folder).items():
        if name.startswith(UNFINISHED) and time.time() - state.st_mtime > YOUNG_S:
            discard(os.path.join(folder, name))


def files_of(folder: str) -> Dict[str, os.stat_result]:
    """The files of a folder with their states; links are none, and other agents may remove files meanwhile."""
    found = {}
    try:
        names = os.listdir(folder)
    except OSError:
        return {}
    for name in names:
        try:
            state = os.lstat(os.path.join(folder, name))
        except OSError:
            continue
        if stat.S_ISREG(state.st_mode):
            found[name] = state
    return found


def is_whole(entry: Entry, target: Optional[str]) -> bool:
    """True when an entry has its hash; what was read goes to the target, if there is one."""
    try:
        return digest_of(entry.path, target) == entry.sha256
    except OSError:
        if target and os.path.exists(entry.path):
            raise  # it is the target that cannot be written
        return False


def digest_of(path: str, target: Optional[str]) -> str:
    """The hash of a file, copied on the way when a target is given; a link in its place is an OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as source:
        if target is None:
            return digest_while(source, None)
        with open(target, "wb") as file:
            return digest_while(source, file)


def copied(source: str, target: str) -> str:
    """Copies a file to a new one that is on the disk when this returns, and gives the hash of what was copied."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, READ_ONLY)
    with open(source, "rb") as origin, os.fdopen(descriptor, "wb") as file:
        digest = digest_while(origin, file)
        file.flush()
        os.fsync(file.fileno())
    return digest


def digest_while(source: BinaryIO, target: Optional[BinaryIO]) -> str:
    """Reads to the end and returns the hash of it."""
    digest = hashlib.sha256()
    for block in iter(lambda: source.read(BLOCK), b""):
        digest.update(block)
        if target is not None:
            target.write(block)
    return digest.hexdigest()


def touch(path: str) -> None:
    """Makes a file count as used now, unless another agent has just removed it."""
    try:
        os.utime(path, None)
    except OSError:
        pass


def discard(path: str) -> None:
    """Removes a file, unless it is gone already."""
    try:
        os.remove(path)
    except OSError:
        pass
