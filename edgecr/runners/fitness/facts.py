"""The facts that a board tells about itself, checked as far as they are judged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict

from edgecr.core.options import Options
from edgecr.runners.agent.events import cleaned, read_as
from edgecr.runners.measurement.readings import Amount, Reading
from edgecr.runners.runtimes import runtimes

if TYPE_CHECKING:
    from edgecr.runners.agent.protocol import Connection

Facts = Mapping[str, Any]


class _Told(Options):
    """A part of what a board tells; it may tell more."""

    model_config = ConfigDict(extra="allow")


class _Clocks(_Told):
    governors: list[str]
    allowed: list[Amount]
    possible: list[Amount]
    least: tuple[Amount, ...] = ()


class _GpuClocks(_Told):
    now: Amount | None = None
    least: Amount | None = None
    allowed: Amount | None = None
    possible: Amount | None = None
    governor: str | None = None


class _Memory(_Told):
    total_kb: Amount | None
    available_kb: Amount | None


class _Throttling(_Told):
    count: Amount | None
    flags: Amount | None


class _Program(_Told):
    pid: Amount
    name: str
    share: Reading = 0.0


class _PowerMode(_Told):
    name: str
    id: Amount | None = None


class _Sensors(_Told):
    source: str | None = None
    rails: tuple[str, ...] = ()
    missing: str = ""


class _Facts(_Told):
    """The facts that are judged here; all others are only recorded."""

    usable_cores: Amount
    load: Reading | None
    busy: Reading | None
    busiest: list[_Program]
    memory: _Memory
    swapped_pages: Amount | None
    cpufreq: _Clocks
    temperatures: dict[str, Reading]
    throttled: _Throttling
    l4t: str | None
    libraries: dict[str, str]
    l4t_version: str | None = None
    tensorrt: str | None = None
    cuda: str | None = None
    model: str | None = None
    cpu: str | None = None
    instructions: tuple[str, ...] = ()
    power_mode: _PowerMode | None = None
    gpu_clocks: _GpuClocks = _GpuClocks()
    gpu_users: list[_Program] | None = None
    over_current: dict[str, Amount] | None = None
    over_current_throttling: dict[str, Amount] | None = None
    power: _Sensors = _Sensors()


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
