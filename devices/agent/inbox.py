"""Files from the host: a name, a size and a checksum first, then blocks until all bytes are there."""

import hashlib
import os
import shutil
from typing import BinaryIO, List, Optional

MOST_BLOCK = 1 << 20
SPARE = 32 << 20  # a board whose disk is filled to the last byte stops working


class BadName(Exception):
    """A name that would leave the work folder, or is none."""


class Upload(object):
    """One file on its way; ``problem`` says what went wrong, after which further bytes are only counted."""

    def __init__(self, work: str, name: str, size: int, sha256: str) -> None:
        if size < 0:
            raise ValueError("a file of %d bytes" % size)
        self.name, self.left, self.sha256 = name, size, sha256
        self.path = place(work, name)
        self.digest = hashlib.sha256()
        self.file: Optional[BinaryIO] = None
        self.problem = lack_of_space(work, size) or self.begin(work)

    def begin(self, work: str) -> Optional[str]:
        """Opens the file in the work folder, which must still be there."""
        folder = os.path.dirname(self.path)
        if folder != work:
            os.makedirs(folder, exist_ok=True)
        try:
            self.file = open(self.path, "wb", buffering=0)
        except OSError as error:
            if not os.path.isdir(work):
                raise
            return "%s on the board cannot be written: %s." % (self.path, error.strerror)
        return None

    def add(self, block: bytes) -> bool:
        """Stores a block; True when the file is complete."""
        if len(block) > self.left:
            raise ValueError("%d bytes too many for %s" % (len(block) - self.left, self.name))
        self.left -= len(block)
        self.digest.update(block)
        if self.file and not self.problem:
            self.problem = append(self.file, block, self.path)
        return self.left == 0

    def finish(self) -> Optional[str]:
        """Closes the complete file; says what went wrong, if anything."""
        self.close()
        if not self.problem and self.digest.hexdigest() != self.sha256:
            self.problem = "The upload of %s was damaged: checksum mismatch." % self.name
        return self.problem

    def drop(self) -> None:
        """Forgets a file that will not be completed."""
        self.close()
        if os.path.exists(self.path):
            os.remove(self.path)

    def close(self) -> None:
        """Closes the file, if it was opened."""
        if self.file:
            self.file.close()
            self.file = None


def place(work: str, name: str) -> str:
    """The path of a name in the work folder: parts joined by ``/``, none of which leads out of it."""
    parts: List[str] = name.split("/")
    if any(part in ("", ".", "..") or "\0" in part or "\\" in part for part in parts):
        raise BadName("%r is not the name of a file in the work folder" % name)
    return os.path.join(work, *parts)


def block_of(stream: BinaryIO, size: int) -> bytes:
    """Exactly ``size`` raw bytes; EOFError when the host leaves in between."""
    if not 0 <= size <= MOST_BLOCK:
        raise ValueError("a block of %d bytes; at most %d are allowed" % (size, MOST_BLOCK))
    block = stream.read(size)
    if len(block) < size:
        raise EOFError()
    return block


def append(file: BinaryIO, block: bytes, path: str) -> Optional[str]:
    """Writes a block, or says why it could not be written."""
    try:
        while block:
            block = block[file.write(block) :]
    except OSError as error:
        return "%s on the board cannot be written: %s." % (path, error.strerror)
    return None


def lack_of_space(folder: str, size: int, variable: str = "TMPDIR") -> Optional[str]:
    """A sentence when the file does not fit; the variable is the one that puts such files elsewhere."""
    free = shutil.disk_usage(folder).free
    if free >= size + SPARE:
        return None
    return (
        "Only %d MB free in %s on the board, %d MB needed. Free space there, or set transport.env.%s to "
        "a folder with more." % (free >> 20, folder, (size + SPARE) >> 20, variable)
    )
