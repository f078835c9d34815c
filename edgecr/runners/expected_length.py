"""The length that a measurement is expected to take, told before it begins."""

from __future__ import annotations

from edgecr.runners.device import Protocol

WARM_WINDOWS = 3
"""The fewest windows after which an arm can count as warm."""


def expected_s(protocol: Protocol, arms: int, idle_s: float) -> float:
    """Seconds of waiting and timing, without the sending and loading of files and the building of engines."""
    a_round = protocol.round_s * arms
    turns = min(protocol.rounds * a_round, max(protocol.max_s, protocol.least_rounds * a_round))
    warm = min(WARM_WINDOWS * protocol.warmup.window_s, protocol.warmup.max_s) * arms
    asked = protocol.throughput
    alone = asked.seconds * len(asked.streams) * arms if asked else 0.0
    return protocol.launches * (turns + warm) + alone + idle_s


def in_words(seconds: float) -> str:
    """A length as a person says it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} minutes" if minutes < 120 else f"{seconds / 3600:.1f} hours"
