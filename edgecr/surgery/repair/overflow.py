"""Memory for more tensors than may be held: those that wait longest lie in a temporary file until they are used."""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef


class Overflow:
    """A temporary file of bytes; a place that is given back is used again for as many bytes."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._end = 0
        self._free: dict[int, list[int]] = {}
        self._full = False

    def write(self, storage: torch.UntypedStorage) -> int | None:
        """The place of a storage's bytes; None where the disk has no room for them."""
        if self._full:
            return None
        size = storage.nbytes()
        place = self._free[size].pop() if self._free.get(size) else self._end
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  it closes with this object
            self._file.seek(place)
            self._full = self._file.write(_bytes(storage)) != size
        except OSError:
            self._full = True
        if self._full:
            return None
        self._end = max(self._end, place + size)
        return place

    def read(self, place: int, storage: torch.UntypedStorage) -> None:
        """Fills a storage with its bytes, and gives their place back."""
        assert self._file is not None
        self._file.seek(place)
        if self._file.readinto(_bytes(storage)) != storage.nbytes():  # type: ignore[attr-defined]
            raise OSError("a temporary file was cut short")
        self.give_back(place, storage.nbytes())

    def give_back(self, place: int, size: int) -> None:
        """Frees a place whose bytes nobody asks for any more."""
        self._free.setdefault(size, []).append(place)


def _bytes(storage: torch.UntypedStorage) -> memoryview:
    """A view without numpy, which would not let the storage shrink again."""
    return memoryview((ctypes.c_char * storage.nbytes()).from_address(storage.data_ptr()))


@dataclass
class _Known:
    """One storage, which is not kept alive, and its place in the file while it has no memory."""

    storage: StorageWeakRef
    size: int
    place: int | None = None


class Tray:
    """Tensors that come and go; while nobody works with them, no more than ``limit`` bytes of them stay in memory."""

    def __init__(self, overflow: Overflow, limit: int) -> None:
        self._overflow, self._limit = overflow, limit
        self._known: dict[int, _Known] = {}
        """The longest unused first."""

    @property
    def held(self) -> int:
        """Bytes in memory."""
        alive = (one for one in self._known.values() if not one.storage.expired())  # type: ignore[no-untyped-call]
        return sum(one.size for one in alive if one.place is None)

    def use(self, tensors: Iterable[Tensor]) -> None:
        """Notes that tensors are worked with now; those that gave up their memory get it back."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if tensor.device.type != "cpu" or not storage.resizable():
                continue
            known = self._known.pop(storage._cdata, None)
            if known is None:
                known = _Known(StorageWeakRef(storage), storage.nbytes())  # type: ignore[no-untyped-call]
            self._known[storage._cdata] = known
            if known.place is not None:
                storage.resize_(known.size)
                self._overflow.read(known.place, storage)
                known.place = None
            known.size = storage.nbytes()

    def rest(self) -> None:
        """Takes the memory of those that were not used for longest."""
        held = 0
        for key, known in reversed(list(self._known.items())):
            storage = torch.UntypedStorage._new_with_weak_ptr(known.storage.cdata)
            if storage is None:
                del self._known[key]
                if known.place is not None:
                    self._overflow.give_back(known.place, known.size)
                continue
            held += storage.nbytes()
            if held > self._limit and storage.nbytes():
                known.place = self._overflow.write(storage)
                if known.place is not None:
                    held -= known.size
                    storage.resize_(0)
