"""The wait for a board to cool down before it is measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from edgecr.core.progress import Monitor
from edgecr.runners import stopping
from edgecr.runners.device import CoolDown

PAUSE_S = 5.0


def cooled(
    cool_down: CoolDown | None,
    name: str,
    facts: Callable[[], Mapping[str, Any]],
    monitor: Monitor,
    pause_s: float = PAUSE_S,
) -> list[str]:
    """Waits until every thermal zone is below the limit; returns what is to be doubted if that cannot be had."""
    if cool_down is None:
        return []
    end, told = time.monotonic() + cool_down.max_s, False
    while hot := _too_hot(facts()["temperatures"], cool_down.below_c):
        zone, degrees = max(hot.items(), key=lambda one: one[1])
        if time.monotonic() >= end:
            return [
                f"{name} was still at {degrees:.0f} C ({zone}) after {cool_down.max_s:g} s of cooling; "
                f"its protocol asks for less than {cool_down.below_c:g} C."
            ]
        if not told:
            monitor.say(f"Waiting for {name} to cool below {cool_down.below_c:g} C; {zone} is at {degrees:.0f} C.")
            told = True
        stopping.pause(pause_s)
    if not facts()["temperatures"]:
        return [f"{name} tells no temperature, so cool_down waited for nothing."]
    return []


def _too_hot(zones: Mapping[str, float], limit: float) -> dict[str, float]:
    return {zone: degrees for zone, degrees in zones.items() if degrees >= limit}
