"""The identity of a measurement: another runtime, release or board gives other times, whatever the files are."""

from __future__ import annotations

from typing import Any

from edgecr.runners.fitness.jetson import release_words
from edgecr.runners.measurement.record import Measurement

RUNTIME, RELEASE, BOARD, POWER_MODE = "runtime", "release", "board", "power mode"


def identity_of(measurement: Measurement) -> dict[str, str]:
    """The runtime with its version, the JetPack, the board and its power mode, as far as they are told."""
    facts = measurement.facts
    found = {
        RUNTIME: ", ".join(_runtimes(measurement)),
        RELEASE: release_words(facts),
        BOARD: facts.get("model") or facts.get("cpu") or "",
        POWER_MODE: (facts.get("power_mode") or {}).get("name") or "",
    }
    return {name: str(text) for name, text in found.items() if text}


def _runtimes(measurement: Measurement) -> list[str]:
    """Every runtime that told its version, with it."""
    starts = [one for launch in measurement.launches for one in launch.starts]
    told = {_runtime(one.info) for one in [*starts, *(alone.start for alone in measurement.alone)]}
    return sorted(text for text in told if text)


def _runtime(info: dict[str, Any]) -> str:
    name, version = info.get("runtime"), info.get("version")
    return f"{name} {version}" if name and version else ""
