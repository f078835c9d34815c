"""The chance of a file on a runtime that this machine does not have, as far as the runtime's documents tell."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Readiness:
    """Findings on a file; only the board's own build proves that it runs."""

    problems: tuple[str, ...]
    """Reasons why the runtime would refuse it, each with the place."""
    remarks: tuple[str, ...]
    """Facts that cost speed, or that only the board can tell."""
    sources: tuple[str, ...]
    """The documents that this rests on, in words."""
