"""Several forward passes that wait for one another at chosen points, so that a sample need not fit into one batch."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from edgecr.core.errors import UnsupportedModel

T = TypeVar("T")
R = TypeVar("R")
_LOOK = 0.1
"""Seconds after which a waiting thread looks around: a signal that comes as it falls asleep does not wake it."""


class _Errand(Generic[R]):
    """Work that one thread has done by another."""

    def __init__(self, work: Callable[[], R]) -> None:
        self._work = work
        self._done = threading.Semaphore(0)
        self._outcome: list[R] = []
        self._failure: BaseException | None = None

    def do(self) -> None:
        """Does the work; what it raises is for the thread that waits, unless it is an interrupt."""
        try:
            self._outcome.append(self._work())
        except Exception as error:
            self._failure = error
        self._done.release()

    def wait(self, look: Callable[[], None]) -> R:
        """The outcome; ``look`` raises where it will never come."""
        while not self._done.acquire(timeout=_LOOK):
            look()
        if self._failure is not None:
            raise self._failure
        return self._outcome[0]


class Lockstep(Generic[T]):
    """Jobs in threads of their own, of which one runs at a time, in a fixed order from meeting to meeting.

    At a meeting each job hands something over; the last one to come works on all of it before anyone goes on. The
    same jobs give the same result each time, and only one of them holds temporary memory. What takes much of it is
    left to the thread that runs the jobs: a C library keeps what a thread has freed for that thread.
    """

    def __init__(self, count: int) -> None:
        self._turns = [threading.Semaphore(0) for _ in range(count)]
        self._brought: list[tuple[object, T]] = []
        self._failure: BaseException | None = None
        self._errands: queue.SimpleQueue[_Errand[Any] | None] = queue.SimpleQueue()

    def run(self, jobs: Sequence[Callable[[], None]]) -> None:
        """Runs all jobs to their ends; the first failure stops them all and is raised here."""
        threads = [
            threading.Thread(target=self._job, args=(number, job), daemon=True) for number, job in enumerate(jobs)
        ]
        for thread in threads:
            thread.start()
        self._turns[0].release()
        try:
            while any(thread.is_alive() for thread in threads):
                self._do_errands()
        except BaseException as error:  # an interrupt reaches this thread only
            self._stop(error)
            for thread in threads:
                thread.join()
            raise
        if self._failure is not None:
            raise self._failure

    def have_done(self, work: Callable[[], R]) -> R:
        """Has the thread that runs the jobs do something."""
        self._go_on()
        errand = _Errand(work)
        self._errands.put(errand)
        return errand.wait(self._go_on)

    def meet(self, number: int, point: object, brought: T, work: Callable[[list[T]], None]) -> None:
        """Job ``number`` hands something over at a point, and goes on when all have come and the work is done."""
        self._go_on()
        self._brought.append((point, brought))
        if number == len(self._turns) - 1:
            arrived, self._brought = self._brought, []
            if len(arrived) != len(self._turns) or any(other != point for other, _ in arrived):
                raise parted()
            self.have_done(lambda: work([each for _, each in arrived]))
        self._turns[(number + 1) % len(self._turns)].release()
        self._wait(number)

    def _do_errands(self) -> None:
        """Does what jobs ask for, until none has for a while or one has ended."""
        try:
            while (errand := self._errands.get(timeout=_LOOK)) is not None:
                errand.do()
        except queue.Empty:
            return

    def _job(self, number: int, job: Callable[[], None]) -> None:
        try:
            self._turn(number, job)
        finally:
            self._errands.put(None)

    def _turn(self, number: int, job: Callable[[], None]) -> None:
        try:
            self._wait(number)
            job()
            if self._brought and number == len(self._turns) - 1:  # the others wait for a meeting that never comes
                raise parted()
        except _Stopped:
            return
        except BaseException as error:
            self._stop(error)
            return
        if number + 1 < len(self._turns):
            self._turns[number + 1].release()

    def _wait(self, number: int) -> None:
        self._go_on()  # a job that caught its stop must not wait for a turn that never comes
        self._turns[number].acquire()
        self._go_on()

    def _go_on(self) -> None:
        if self._failure is not None:
            raise _Stopped

    def _stop(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
        for turn in self._turns:
            turn.release()


def parted() -> UnsupportedModel:
    """The error that some images took another way than others."""
    return UnsupportedModel(
        "The model runs other layers for some images than for others, so it cannot be repaired; leave the repair out."
    )


class _Stopped(BaseException):
    """Another job failed; not an Exception, so that a module's own handlers let it pass."""
