"""A device whose sessions take a moment."""

from __future__ import annotations

from edgecr.runners.base import Device


def quick_device(**changes) -> Device:
    """This machine, measured only as long as a test needs."""
    values = {
        "name": "quick", "purpose": "tests", "kind": "cpu", "transport": {"kind": "local"},
        "protocol": {"launches": 2, "rounds": 3, "round_s": 0.005, "least_rounds": 1,
                     "warmup": {"window_s": 0.002, "max_s": 0.1}, "throughput": {"seconds": 0.01, "streams": [1, 2]}},
    }
    return Device.parse(values | changes)
