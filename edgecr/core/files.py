"""Reading and writing files so that a kill or a full disk never leaves a half-written one."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from edgecr.core.errors import FileProblem, StorageError

MOST_JSON = 1 << 28
"""Bytes: several times what the longest measurement takes."""
_STORAGE = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "writing is not permitted",
    errno.EPERM: "writing is not permitted",
    errno.EROFS: "the file system is read-only",
    errno.EFBIG: "the file would be larger than this system allows",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.ENOENT: "a part of the path does not exist and cannot be made",
    errno.EISDIR: "a folder is in its place",
    errno.ELOOP: "it is a symbolic link to itself, or a part of the path is",
    errno.EEXIST: "something that is no folder is in the place of one",
    errno.ENXIO: "a pipe or a device is in its place",
    errno.ENAMETOOLONG: "its name is too long",
}
_KEPT = 40
"""Characters of a file's name that its temporary sibling bears too: every name that a file may have leaves room."""


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns the operating system's write failures into a StorageError that names the path."""
    try:
        yield
    except OSError as error:
        reason = _STORAGE.get(error.errno or 0)
        if reason is None:
            raise
        raise not_written(path, reason) from error


def not_written(path: Path, reason: str) -> StorageError:
    """The error for a file that cannot be written, for a reason in a few words."""
    problem = StorageError(
        f"Cannot write {path}: {reason}. Free space or choose another folder, then run "
        "the same command again; it continues where it stopped."
    )
    problem.reason = reason
    return problem


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside ``path`` and moves it into place only if the block succeeds."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:_KEPT]}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
    temporary = Path(name)
    try:
        with storage_errors(path):
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Gives a temporary folder beside ``path`` and moves it into place only if the block succeeds."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name[:_KEPT]}.", suffix=".tmp", dir=path.parent))
    try:
        with storage_errors(path):
            yield temporary
            os.chmod(temporary, 0o755)
            if path.exists():
                shutil.rmtree(path)
            os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class LockHeld(Exception):
    """Another process holds a lock; whoever asked for it says what that means."""


@contextlib.contextmanager
def locked(file: Path, *, remove: bool = False) -> Iterator[None]:
    """Holds a lock file, LockHeld when another process has it; the lock dies with the process, however it dies.

    With ``remove`` the file is gone afterwards.
    """
    handle = _held(file)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # while it is held, so that nobody else's is taken away
            if remove:
                file.unlink()
        os.close(handle)


def _held(file: Path) -> int:
    """The handle of a lock file that is held; one that was removed by its owner meanwhile is made anew."""
    while True:
        with storage_errors(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(handle)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), file.stat()):
                    return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _lock(handle: int) -> None:
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise LockHeld from error


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file atomically."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file atomically, keys sorted; a FileProblem for text that `read_json` would refuse."""
    text = json_text(value)
    if "\\u" in text:
        _refuse_half_characters(path, value)
    write_text(path, text)


def json_text(value: Any) -> str:
    """The one text that `write_json` writes for a value."""
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"


def _refuse_half_characters(path: Path, value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        before, after = error.object[: error.start], error.object[error.start :]
        odd = before.rpartition('"')[2] + after.partition('"')[0]
        raise FileProblem(f"{path} cannot hold {odd!r}, which is not UTF-8. Rename what bears that name.") from error


def is_utf8(text: str) -> bool:
    """False for text that no file of text can hold, such as a file's name whose bytes are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_json(path: Path) -> Any:
    """Reads a JSON file of finite numbers; a missing, oversized or damaged one is a FileProblem."""
    with opened(path) as file:
        content = file.read(MOST_JSON + 1)
    if len(content) > MOST_JSON:
        raise FileProblem(f"{path} is larger than any record of EdgeCR may be ({MOST_JSON >> 20} MiB).")
    try:
        value = json.loads(content.decode("utf-8"), parse_constant=_no_number, parse_float=_finite)
        if b"\\u" in content:  # half of a surrogate pair is no text: nothing could write or print it
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except (ValueError, RecursionError) as error:  # ValueError: text, JSON, and whole numbers of thousands of digits
        raise FileProblem(f"{path} is not valid JSON: {error}.") from error


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is not a number")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:20]} is too large for a number")
    return value


@contextlib.contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """A file to read, and its reading; a FileProblem for what is no ordinary file or cannot be read.

    A pipe or a terminal is never waited for: it is opened without waiting, and refused once it is known.
    """
    with read_errors(path):
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise FileProblem(f"{path} is not a file.")
            with open(handle, "rb", closefd=False) as file:
                yield file
        finally:
            os.close(handle)


@contextlib.contextmanager
def read_errors(path: Path) -> Iterator[None]:
    """Turns the operating system's read failures into a FileProblem that names the path."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileProblem(f"{path} does not exist.") from error
    except OSError as error:
        raise FileProblem(f"{path} cannot be read: {error.strerror or error}.") from error


@contextlib.contextmanager
def refused_as(problem: str) -> Iterator[None]:
    """Around the reading of a file's values: what does not fit is a FileProblem that begins like this."""
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise FileProblem(": ".join(part for part in (problem, place, first["msg"]) if part) + ".") from error


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex; a FileProblem for what is no ordinary file or cannot be read."""
    digest = hashlib.sha256()
    with opened(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fingerprint(value: Any) -> str:
    """The SHA-256 of a plain value's canonical JSON, in hex."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def joint_hash(files: Mapping[str, str]) -> str:
    """The identity of what consists of some files, by their names and hashes: of one file its own hash.

    The main file of a model has no name, so that a copy under another one is the same model.
    """
    return next(iter(files.values())) if len(files) == 1 else fingerprint(dict(files))
