"""Images that a dataset holds more than once: a test image that training has seen, or a copy of one, proves nothing."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import numpy as np

from edgecr.core.progress import Monitor
from edgecr.data.sets import MemorySet, StreamSet

_LOOK = 4096
"""Bytes in the middle of a file by which files of one size are told apart before they are read whole."""
Images: TypeAlias = MemorySet | StreamSet
Pairs = list[tuple[int, int]]


def shared(one: Images, other: Images) -> Pairs:
    """The index of each image that the other part holds too, beside its index there.

    Images in memory are compared pixel by pixel, files that stay on disk byte by byte.
    """
    if isinstance(one, StreamSet) and isinstance(other, StreamSet):
        return _same_files(one.paths, other.paths)
    return _meeting(_pixels(one), _pixels(other))


def without_test_images(parts: Sequence[Images], test: Images, monitor: Monitor | None) -> list[Images]:
    """Parts that were drawn beside a test part, without the copies of its images; says how many those were."""
    gone = [{index for index, _ in shared(part, test)} for part in parts]
    if count := sum(map(len, gone)):
        (monitor or Monitor()).say(f"Left out of training and validation: {count} copies of test images.")
    return [part.at(np.setdiff1d(np.arange(len(part)), list(out))) if out else part for part, out in zip(parts, gone)]


def distinct(test: Images, monitor: Monitor | None) -> Images:
    """A test part with each image once, the first of those alike; says how many copies were left out.

    A copy is no image of its own: intervals that counted it would promise what nobody has seen.
    """
    keys = _repeated_files(test.paths) if isinstance(test, StreamSet) else _pixels(test)
    copies = [index for index, first in _meeting(keys, keys) if index != first]
    if not copies:
        return test
    (monitor or Monitor()).say(f"Left out of the test images: {len(copies)} copies of others among them.")
    return test.at(np.setdiff1d(np.arange(len(test)), copies))


def _meeting(one: Mapping[int, Hashable], other: Mapping[int, Hashable]) -> Pairs:
    first = {key: index for index, key in reversed([*other.items()])}
    return [(index, first[key]) for index, key in one.items() if key in first]


def _pixels(images: Images) -> dict[int, Hashable]:
    return {index: _digest(images.numpy([index]).data) for index in range(len(images))}


def _same_files(one: Sequence[Path], other: Sequence[Path]) -> Pairs:
    """Files of the same content; only what is alike so far is looked at more closely."""
    left, right = dict(enumerate(one)), dict(enumerate(other))
    for look in _LOOKS:
        ours, theirs = _looked(left, look), _looked(right, look)
        common = {*ours.values()} & {*theirs.values()}
        left = {index: file for index, file in left.items() if ours[index] in common}
        right = {index: file for index, file in right.items() if theirs[index] in common}
    return _meeting({index: ours[index] for index in left}, {index: theirs[index] for index in right})


def _repeated_files(paths: Sequence[Path]) -> dict[int, Hashable]:
    """The content of each file that is there more than once."""
    left, keys = dict(enumerate(paths)), dict[int, Hashable]()
    for look in _LOOKS:
        keys = _looked(left, look)
        often = Counter(keys.values())
        left = {index: file for index, file in left.items() if often[keys[index]] > 1}
    return {index: keys[index] for index in left}


def _looked(files: Mapping[int, Path], look: Callable[[Path], Hashable]) -> dict[int, Hashable]:
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return dict(zip(files, pool.map(look, files.values(), chunksize=64)))


def _middle(file: Path) -> bytes:
    with file.open("rb") as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(max(0, (size - _LOOK) // 2))
        return opened.read(_LOOK)


def _whole(file: Path) -> bytes:
    return _digest(file.read_bytes())


def _length(file: Path) -> int:
    return file.stat().st_size


_LOOKS: tuple[Callable[[Path], Hashable], ...] = (_length, _middle, _whole)
"""Closer and closer looks at a file: only what is alike so far is looked at again."""


def _digest(content: bytes | memoryview) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()
