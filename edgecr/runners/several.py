"""Several boards at once: each in a thread of its own, and the failure of one is no failure of the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from typing_extensions import override

from edgecr.core.errors import SomeRaised
from edgecr.core.progress import Bar, Monitor
from edgecr.runners.agent.protocol import kill_open_connections
from edgecr.runners.stopping import stop

Found = TypeVar("Found")


class NamedMonitor(Monitor):
    """Passes on lines under the name of a board, and shows no bars: those of several boards would mix."""

    def __init__(self, name: str, monitor: Monitor) -> None:
        self._name, self._monitor = name, monitor

    @override
    def say(self, text: str) -> None:
        self._monitor.say(f"{self._name}: {text}")

    @override
    def warn(self, text: str) -> None:
        self._monitor.warn(f"{self._name}: {text}")

    @override
    def event(self, kind: str, **facts: Any) -> None:
        self._monitor.event(kind, **facts)

    @override
    def bar(self, label: str, total: float, done: float = 0) -> Bar:
        self.say(label)
        return Bar()


def without_exceptions(results: Mapping[str, Found | Exception]) -> dict[str, Found]:
    """The results, if none is an exception; else SomeRaised, or the exception itself where there is nothing beside."""
    found = {name: one for name, one in results.items() if not isinstance(one, Exception)}
    raised = {name: one for name, one in results.items() if isinstance(one, Exception)}
    if raised:
        first = next(iter(raised.values()))
        if not found:
            raise first
        raise SomeRaised(found, raised) from first
    return found


def settled(work: Callable[[], Found]) -> Found | Exception:
    """The result of some work, or the exception that it raised; an interruption goes on."""
    try:
        return work()
    except Exception as error:
        return error


def at_once(jobs: Mapping[str, Callable[[Monitor], Found]], monitor: Monitor) -> dict[str, Found | Exception]:
    """The results of all jobs by name; one job alone runs as it is. An interruption ends the sessions of all.

    An exception is the result of the job that raised it, so that those of the others are not lost.
    """
    if len(jobs) == 1:
        return {name: settled(partial(job, monitor)) for name, job in jobs.items()}
    over = threading.Event()

    def stoppable(name: str) -> Found:
        stop.set(over)
        return jobs[name](NamedMonitor(name, monitor))

    with ThreadPoolExecutor(len(jobs)) as pool:
        futures = {name: pool.submit(stoppable, name) for name in jobs}
        try:
            return {name: settled(future.result) for name, future in futures.items()}
        except BaseException as error:
            if not isinstance(error, Exception):  # the others would go on, and be waited for
                over.set()
                kill_open_connections()
            raise
