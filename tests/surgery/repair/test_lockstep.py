from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import pytest

from edgecr.core.errors import UnsupportedModel
from edgecr.surgery.repair.lockstep import Lockstep

Job = Callable[[], None]


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    before = threading.active_count()
    yield
    until = time.monotonic() + 10  # an interrupted join may return a moment before its thread is gone
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.01)
    assert threading.active_count() == before


class Diary:
    """Jobs that write down what happens, and meet at the named points."""

    def __init__(self, count: int) -> None:
        self.together: Lockstep[str] = Lockstep(count)
        self.lines: list[str] = []

    def job(self, number: int, points: Iterable[str], fails_at: str = "") -> None:
        for point in points:
            self.lines.append(f"{point}{number}")
            if point == fails_at:
                raise ValueError(f"job {number} at {point}")
            self.together.meet(number, point, f"{point}{number}", self.work)
        self.lines.append(f"end{number}")

    def work(self, brought: list[str]) -> None:
        self.lines.append("+".join(brought))

    def run(self, *jobs: Job) -> None:
        self.together.run(jobs)


def test_one_runs_at_a_time_in_the_same_order_from_meeting_to_meeting() -> None:
    diary = Diary(3)
    diary.run(*(partial(diary.job, number, "ab") for number in range(3)))
    assert diary.lines == ["a0", "a1", "a2", "a0+a1+a2", "b0", "b1", "b2", "b0+b1+b2", "end0", "end1", "end2"]


def test_one_job_alone_meets_itself() -> None:
    diary = Diary(1)
    diary.run(partial(diary.job, 0, "ab"))
    assert diary.lines == ["a0", "a0", "b0", "b0", "end0"]


@pytest.mark.parametrize("fails", [0, 1, 2])
def test_the_failure_of_one_stops_all_and_is_raised(fails: int) -> None:
    diary = Diary(3)
    with pytest.raises(ValueError, match=f"job {fails} at b"):
        diary.run(*(partial(diary.job, number, "abc", "b" * (number == fails)) for number in range(3)))
    assert diary.lines[:4] == ["a0", "a1", "a2", "a0+a1+a2"]
    assert diary.lines[4:] == ["b0", "b1", "b2"][: fails + 1]


def test_the_failure_of_the_work_is_raised() -> None:
    diary = Diary(2)
    diary.work = lambda brought: [][0]  # type: ignore[method-assign,misc]
    with pytest.raises(IndexError):
        diary.run(*(partial(diary.job, number, "ab") for number in range(2)))
    assert diary.lines == ["a0", "a1"]


@pytest.mark.parametrize(
    "points", [("ab", "ac"), ("ab", "a"), ("a", "ab"), ("ab", "ab", "a"), ("ab", "a", "ab"), ("", "a")]
)
def test_jobs_that_do_not_meet_are_refused_rather_than_waited_for(points: tuple[str, ...]) -> None:
    diary = Diary(len(points))
    with pytest.raises(UnsupportedModel, match="other layers for some images"):
        diary.run(*(partial(diary.job, number, each) for number, each in enumerate(points)))


def test_a_job_that_catches_its_stop_is_stopped_again() -> None:
    diary = Diary(2)

    def stubborn() -> None:
        for point in "abc":
            try:
                diary.together.meet(0, point, point, diary.work)
            except BaseException:
                diary.lines.append(f"caught {point}")

    with pytest.raises(ValueError, match="job 1 at a"):
        diary.run(stubborn, partial(diary.job, 1, "abc", "a"))
    assert diary.lines == ["a1", "caught a", "caught b", "caught c"]


def endless() -> Iterator[str]:
    """Points without an end, but for a test that would hang: a signal may take its time."""
    yield from "ab"
    until = time.monotonic() + 60
    while time.monotonic() < until:
        time.sleep(0.001)  # work outside of Python, as layers do: threads in a tight turn starve the main one
        yield "c"


def test_an_interrupt_stops_all_jobs_before_it_is_raised() -> None:
    diary = Diary(2)

    def work(brought: list[Any]) -> None:
        if brought[0] == "b0":
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # type: ignore[arg-type]

    diary.work = work  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        diary.run(*(partial(diary.job, number, endless()) for number in range(2)))
    assert not any(line.startswith("end") for line in diary.lines)


def test_errands_are_done_by_the_thread_that_runs_the_jobs() -> None:
    together: Lockstep[None] = Lockstep(2)
    done: list[int] = []

    def job() -> None:
        assert threading.get_ident() != runs
        done.append(together.have_done(threading.get_ident))

    runs = threading.get_ident()
    together.run([job, job])
    assert done == [runs, runs]


def test_the_failure_of_an_errand_is_that_of_the_job() -> None:
    together: Lockstep[None] = Lockstep(1)
    caught: list[str] = []

    def job() -> None:
        try:
            together.have_done(lambda: [][0])
        except IndexError as error:
            caught.append(str(error))
            raise ValueError("mine") from error

    with pytest.raises(ValueError, match="mine"):
        together.run([job])
    assert len(caught) == 1


def test_an_interrupt_in_an_errand_stops_all() -> None:
    together: Lockstep[None] = Lockstep(2)

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        together.run([lambda: together.have_done(interrupted), lambda: None])
