"""Exported files measured with several numbers of threads, one measurement after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgecr.api.runs import AnyPath

if TYPE_CHECKING:
    from edgecr.core.progress import Monitor
    from edgecr.run import Run
    from edgecr.runners.base import Measurement
    from edgecr.runners.device import Device
    from edgecr.runners.manner import Manner


def swept(
    what: AnyPath | Run | Sequence[AnyPath] | None,
    device: str,
    threads: Sequence[int],
    batch: Sequence[int] | None,
    runtime: str | None,
    launches: int | None,
    rounds: int | None,
    monitor: Monitor,
    manner: Manner,
) -> list[tuple[int, Measurement]]:
    """The measurement of one file or two with each number of threads; a failure of the device is its ``error``."""
    from edgecr.api.measuring import files_plan
    from edgecr.core.errors import RequestError
    from edgecr.runners.base import load_device, runner_for

    declared = load_device(device)
    plan = files_plan(what, declared, batch, runtime, launches, rounds, manner)
    if plan is None:
        raise RequestError("--threads is for exported files: a run is measured as its device's file says.")
    found = []
    for count in threads:
        changed = with_threads(declared, plan.arms[0].runtime, count)
        monitor.say(f"With {count} thread{'s' if count > 1 else ''}")
        found.append((count, runner_for(changed).measure(plan, monitor)))
    return found


def with_threads(device: Device, runtime: str, threads: int) -> Device:
    """The same device, one of whose runtimes uses so many threads."""
    from edgecr.core.errors import RequestError

    options = device.runtime(runtime)
    if options.by_tool:
        raise RequestError(f"--threads: {runtime} computes on the GPU: there are none to choose. --streams sweeps it.")
    options = options.model_copy(update={"threads": threads})
    return device.model_copy(update={"runtimes": {**device.runtimes, runtime: options}})
