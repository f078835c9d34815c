"""Time, and who else wanted the processor meanwhile."""

import os
import resource
import time
from typing import Dict, Optional, Tuple


def _coarse() -> int:
    return int(time.perf_counter() * 1e9)


now = getattr(time, "perf_counter_ns", _coarse)  # Python 3.6 has no perf_counter_ns


def _coarse_processor() -> int:
    return int(time.process_time() * 1e9)


processor = getattr(time, "process_time_ns", _coarse_processor)


def counters() -> Dict[str, Optional[int]]:
    """CPU time, run-queue wait, forced switches and steal so far; None where the kernel does not tell.

    For the start of a span: CPU time is read last, so that reading the others is no part of what follows.
    """
    return dict(others(), run_ns=processor())


def since(before: Dict[str, Optional[int]]) -> Dict[str, Optional[int]]:
    """The increase of the counters since ``before``; CPU time is read first, so that it excludes reading the others."""
    run = processor()
    after = dict(others(), run_ns=run)
    return {key: difference(before[key], value) for key, value in after.items()}


def others() -> Dict[str, Optional[int]]:
    """The counters besides CPU time; reading them takes some of it."""
    _, wait = schedule("/proc/self/task")  # what it says of running is only brought up to date at ticks
    switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
    return {"wait_ns": wait, "switches": switches, "steal": steal("/proc/stat")}


def difference(before: Optional[int], after: Optional[int]) -> Optional[int]:
    """The growth of a counter; None when it is not known, or fell because a thread ended and took its share along."""
    return None if before is None or after is None or after < before else after - before


def schedule(folder: str) -> Tuple[Optional[int], Optional[int]]:
    """Nanoseconds on a processor and waiting for one, over all threads; None where the kernel does not count."""
    run = wait = 0
    try:
        for task in os.listdir(folder):
            with open(os.path.join(folder, task, "schedstat")) as file:
                on_cpu, waiting = file.read().split()[:2]
            run, wait = run + int(on_cpu), wait + int(waiting)
    except (OSError, ValueError):
        return None, None
    return (run, wait) if run else (None, None)  # "0 0 0" of a process that runs: the kernel does not count


def steal(file_name: str) -> Optional[int]:
    """Ticks that the hypervisor gave to others."""
    try:
        with open(file_name) as file:
            return int(file.readline().split()[8])
    except (OSError, IndexError, ValueError):
        return None
