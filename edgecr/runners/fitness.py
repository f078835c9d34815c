"""Checks that a machine is in a fit state for measuring; each warning names its remedy."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict

from edgecr.core.errors import DeviceFailed
from edgecr.core.options import Options
from edgecr.runners.agent.events import cleaned, read_as
from edgecr.runners.device import Device
from edgecr.runners.runtimes import runtimes
from edgecr.runners.trust import hiding

if TYPE_CHECKING:
    from edgecr.runners.agent.protocol import Connection

Facts = Mapping[str, Any]

LITTLE_MEMORY = 0.1
EVER_BUSY = 0.2
"""Cores that are busy on any system, whatever runs."""
PI_FLAGS = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}


class _Told(Options):
    """A part of what a board tells; it may tell more."""

    model_config = ConfigDict(extra="allow")


class _Clocks(_Told):
    governors: list[str]
    allowed: list[int]
    possible: list[int]


class _Memory(_Told):
    total_kb: int | None
    available_kb: int | None


class _Throttling(_Told):
    count: int | None
    flags: int | None


class _Program(_Told):
    pid: int
    name: str
    share: float


class _Facts(_Told):
    """The facts that are judged here; all others are only recorded."""

    usable_cores: int
    load: float | None
    busy: float | None
    busiest: list[_Program]
    memory: _Memory
    swapped_pages: int | None
    cpufreq: _Clocks
    temperatures: dict[str, float]
    throttled: _Throttling
    l4t: str | None
    libraries: dict[str, str]


class _Probed(_Told):
    facts: _Facts


def ask(agent: Connection) -> dict[str, Any]:
    """The facts of a board, checked, with texts that may be shown."""
    event = cleaned(agent.ask("probe", packages=packages_of_runtimes()))
    read_as(_Probed, event)
    found: dict[str, Any] = event["facts"]
    return found


def packages_of_runtimes() -> list[str]:
    """The packages whose versions a board is asked for: those of every runtime that is known here."""
    return sorted({package for name in runtimes for package in runtimes.get(name).packages})


def refuse_unexpected(device: Device, facts: Facts) -> None:
    """Raises when the board is not in the state that its declaration asks for."""
    wrong = [
        text for text in (_wrong_l4t(device, facts), _wrong_governor(device, facts), _too_hot(device, facts)) if text
    ]
    if wrong:
        raise DeviceFailed(
            f"Device {device.name!r} is not as its file expects: {'; '.join(wrong)}. "
            f"Put the board in that state, or change 'expect:' in devices/{device.name}.yaml."
        )


def before(device: Device, facts: Facts) -> list[str]:
    """Warnings about the state before measuring."""
    texts = [
        hiding(device),
        _load(device, facts),
        _threads(device, facts),
        _governor(facts),
        _capped(facts),
        _memory(facts),
        _pi(facts),
    ]
    return [text for text in texts if text]


def after(start: Facts, end: Facts) -> list[str]:
    """Warnings about what happened while measuring."""
    texts = [_swapped(start, end), _throttled(start, end)]
    return [text for text in texts if text]


def busy_names(facts: Facts) -> str:
    """The programs that used the processor most, as text."""
    found = [f"{one['name']} (pid {one['pid']}, {one['share']:.0%} of a core)" for one in facts.get("busiest") or ()]
    return ", ".join(found) or "no single program stood out"


def stop_them(facts: Facts) -> str:
    """The sentence that says what to end before measuring again."""
    if not facts.get("busiest"):
        return "No single program stood out."
    return f"Stop these programs first: {busy_names(facts)}."


def _wrong_l4t(device: Device, facts: Facts) -> str | None:
    wanted, found = device.expect.l4t, facts.get("l4t") or "nothing"
    return None if wanted is None or fnmatchcase(found, wanted) else f"L4T is {found!r}, expected {wanted!r}"


def _wrong_governor(device: Device, facts: Facts) -> str | None:
    wanted, found = device.expect.governor, facts["cpufreq"]["governors"]
    return None if wanted is None or found == [wanted] else f"governor is {found or 'unknown'}, expected {wanted!r}"


def _too_hot(device: Device, facts: Facts) -> str | None:
    limit, zones = device.expect.max_temperature_c, facts["temperatures"]
    hot = {name: value for name, value in zones.items() if limit is not None and value > limit}
    return f"hotter than {limit} C: {hot}; let it cool" if hot else None


def _load(device: Device, facts: Facts) -> str | None:
    cores = facts["usable_cores"]
    busy = facts["busy"] if facts["busy"] is not None else facts["load"] or 0.0
    if busy + most_threads(device) <= cores + EVER_BUSY:
        return None
    return (
        f"{device.name} is busy ({busy:.1f} of {cores} cores): absolute latencies may be "
        f"left out, the paired ratio stays. {stop_them(facts)}"
    )


def _threads(device: Device, facts: Facts) -> str | None:
    threads, cores = most_threads(device), facts["usable_cores"]
    if threads <= cores:
        return None
    return (
        f"{threads} threads are declared, but only {cores} cores may be used: threads wait for each other. "
        f"Lower runtimes.*.threads in devices/{device.name}.yaml."
    )


def most_threads(device: Device) -> int:
    """The most threads that one of the device's runtimes uses."""
    return max((options.threads for options in device.runtimes.values()), default=1)


def _governor(facts: Facts) -> str | None:
    slow = [name for name in facts["cpufreq"]["governors"] if name != "performance"]
    if not slow:
        return None
    return (
        f"The frequency governor is {', '.join(slow)}: clocks follow the load, so short runs look slow. "
        "For steady numbers: sudo cpupower frequency-set -g performance."
    )


def _capped(facts: Facts) -> str | None:
    allowed, possible = facts["cpufreq"]["allowed"], facts["cpufreq"]["possible"]
    if not allowed or not possible or max(allowed) >= max(possible):
        return None
    return (
        f"Clocks are capped at {max(allowed) / 1e6:.2f} GHz of {max(possible) / 1e6:.2f} GHz; "
        "lift it with sudo cpupower frequency-set -u MAX, or keep it and compare only with itself."
    )


def _memory(facts: Facts) -> str | None:
    total, free = facts["memory"]["total_kb"], facts["memory"]["available_kb"]
    if not total or free is None or free >= LITTLE_MEMORY * total:
        return None
    return f"Only {free * 1024 / 1e6:.0f} MB of memory are free: the board may swap. Stop other programs."


def _pi(facts: Facts) -> str | None:
    flags = facts["throttled"]["flags"] or 0
    now = [text for bit, text in PI_FLAGS.items() if flags >> bit & 1]
    return f"The board reports {', '.join(now)}: use a stronger power supply or better cooling." if now else None


def _swapped(start: Facts, end: Facts) -> str | None:
    first, last = start["swapped_pages"], end["swapped_pages"]
    if first is None or last is None or last - first < 256:
        return None
    return f"The machine swapped {last - first} pages while measuring: free memory, then measure again."


def _throttled(start: Facts, end: Facts) -> str | None:
    first, last = start["throttled"]["count"], end["throttled"]["count"]
    if first is None or last is None or last <= first:
        return None
    return f"The processor throttled {last - first} times from heat while measuring: cool it, measure again."
