"""Files from the host: a size and a checksum first, then exactly that many raw bytes."""

import hashlib
import os
import shutil
from typing import BinaryIO, Callable, Iterator, Optional

BLOCK = 1 << 20
SPARE = 32 << 20  # a board whose disk is filled to the last byte stops working


def receive(stream: BinaryIO, path: str, size: int, sha256: str, alive: Callable[[], None]) -> Optional[str]:
    """Stores one file; says what went wrong, if anything, after all its bytes were read."""
    problem = lack_of_space(os.path.dirname(path), size)
    digest = hashlib.sha256()
    with open(os.devnull if problem else path, "wb", buffering=0) as file:
        for block in blocks(stream, size):
            alive()
            digest.update(block)
            problem = problem or append(file, block, path)
    if not problem and digest.hexdigest() != sha256:
        problem = "The upload of %s was damaged: checksum mismatch." % os.path.basename(path)
    return problem


def blocks(stream: BinaryIO, size: int) -> Iterator[bytes]:
    """Exactly ``size`` bytes, piece by piece; EOFError when the host leaves in between."""
    while size:
        block = stream.read(min(size, BLOCK))
        if not block:
            raise EOFError()
        size -= len(block)
        yield block


def append(file: BinaryIO, block: bytes, path: str) -> Optional[str]:
    """Writes a block, or says why it could not be written."""
    try:
        while block:
            block = block[file.write(block) :]
    except OSError as error:
        return "%s on the board cannot be written: %s." % (path, error.strerror)
    return None


def lack_of_space(folder: str, size: int) -> Optional[str]:
    """A sentence when the file does not fit."""
    free = shutil.disk_usage(folder).free
    if free >= size + SPARE:
        return None
    return (
        "Only %d MB free in %s on the board, %d MB needed. Free space there, or set transport.env.TMPDIR to "
        "a folder with more." % (free >> 20, folder, (size + SPARE) >> 20)
    )
