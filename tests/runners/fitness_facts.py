"""Facts of boards as the agent tells them."""

from __future__ import annotations

from typing import Any


def facts(**changes: Any) -> dict[str, Any]:
    """The facts of a machine about which nothing is to be said."""
    return {
        "load": 0.1,
        "busy": 0.0,
        "usable_cores": 4,
        "busiest": [],
        "swapped_pages": 0,
        "temperatures": {},
        "l4t": None,
        "cpufreq": {"governors": [], "now": [], "allowed": [], "possible": []},
        "memory": {"total_kb": 1000, "available_kb": 900},
        "throttled": {"count": 0, "flags": None},
    } | changes


def jetson(**changes: Any) -> dict[str, Any]:
    """The facts of an Orin with its clocks locked."""
    clocks = {"now": 10**9, "least": 10**9, "allowed": 10**9, "possible": 10**9, "governor": "performance"}
    return (
        facts(
            l4t="# R36 (release), REVISION: 4.3",
            l4t_version="36.4.3",
            tensorrt="10.3.0.30",
            power_mode={"name": "MAXN_SUPER", "id": 2},
            gpu_clocks=clocks,
            over_current={"oc1": 0, "oc3": 41},
        )
        | changes
    )
