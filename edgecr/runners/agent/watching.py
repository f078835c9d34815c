"""The readings that the agent is asked to take beside its jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgecr.core.progress import Monitor
from edgecr.runners.agent.protocol import Connection
from edgecr.runners.device import Device
from edgecr.runners.measurement.readings import Watched

STATE_S = 5.0
"""Seconds between two looks at temperatures and clocks; there is one more at both ends of a job."""
MEMORY_S = 0.05


def of_launch(device: Device) -> dict[str, Any]:
    """The readings beside the rounds: power, where the device's file asks for it, and the state of the board."""
    power = device.power
    asked = {"power": power.source, "period_s": power.period_ms / 1e3} if power else {}
    return {"state_s": STATE_S, **asked}


def of_alone(device: Device) -> dict[str, Any]:
    """The readings beside a process that one model has to itself: on a board, the memory that is left for others."""
    return {"state_s": STATE_S, "memory_s": MEMORY_S if device.kind != "cpu" else None}


def idle(agent: Connection, device: Device, facts: Mapping[str, Any], monitor: Monitor) -> Watched | None:
    """The power of the idle board; None where nobody asks for it, or its facts tell of no sensor."""
    seconds = idle_seconds(device, facts)
    if not seconds:
        return None
    monitor.say(f"Reading the power of the idle board for {seconds:g} s")
    return Watched.of(list(agent.request("idle", seconds=seconds, watch=of_launch(device))))


def idle_seconds(device: Device, facts: Mapping[str, Any]) -> float:
    """Seconds in which the idle board is read; 0 where nobody asks for it, or its facts tell of no sensor."""
    there = (facts.get("power") or {}).get("source")
    return device.power.idle_s if device.power and there else 0.0
