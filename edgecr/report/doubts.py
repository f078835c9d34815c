"""Doubts beside the figures that they concern: a small number in the cell, the words below the table."""

from __future__ import annotations

import re
from collections.abc import Iterable

from edgecr.report.gates.evidence import place_in
from edgecr.report.result import LatencyRow, Result

_SMALL = "\N{SUPERSCRIPT ZERO}¹²³\N{SUPERSCRIPT FOUR}\N{SUPERSCRIPT FIVE}\N{SUPERSCRIPT SIX}"
_SMALL += "\N{SUPERSCRIPT SEVEN}\N{SUPERSCRIPT EIGHT}\N{SUPERSCRIPT NINE}"
TIMED = ("p50", "p90", "p99")
"""The figures that a doubt about an arm's launches concerns."""


UNVERIFIED = "Evidence that is not what the run wrote"


def incomplete(result: Result) -> list[str]:
    """The measurements that did not run to their end."""
    return [f"{place_in(result, row)}: {row.partial}" for row in result.latency if row.partial]


class Marks:
    """Numbers the doubts of one table in the order in which they are met; one that comes again keeps its number."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def beside(self, cell: str, doubts: Iterable[str]) -> str:
        """The cell with the numbers of its doubts."""
        numbers = [self._numbers.setdefault(text, len(self._numbers) + 1) for text in dict.fromkeys(doubts) if text]
        return " ".join([cell, *map(_small, numbers)])

    @property
    def notes(self) -> tuple[str, ...]:
        """Every doubt behind its number."""
        return tuple(f"{_small(number)} {text}" for text, number in self._numbers.items())


def unmarked(cell: str) -> tuple[str, str]:
    """A cell without the numbers of its doubts, and those numbers."""
    bare = cell.rstrip(f"{_SMALL} ")
    return bare, cell[len(bare) :]


def _small(number: int) -> str:
    return "".join(_SMALL[int(digit)] for digit in str(number))


def about_place(row: LatencyRow) -> list[str]:
    """The reasons to doubt all figures of a device."""
    partial = [f"not complete: {row.partial}"] if row.partial else []
    failed = [row.error] if row.error and row.error.rstrip(".") not in row.partial else []
    return [*partial, *failed, *row.doubts]


def about_figure(row: LatencyRow, role: str, field: str) -> list[str]:
    """The reasons to doubt one figure of a role, or the reason why it is missing."""
    arm = row.arms.get(role)
    if arm is None:
        return []
    if getattr(arm, field) is None:
        return [reason] if (reason := arm.missing.get(field)) else []
    return list(arm.doubts) if field in TIMED else []


def about_speed(row: LatencyRow) -> list[str]:
    """The reasons to doubt the median latencies of a device, or why they are missing: one sentence each, no repetition.

    Reasons that both roles share are merged; the full text is below the table of speeds.
    """
    whole = about_place(row)
    grouped: dict[str, dict[str, list[str]]] = {}
    for role in row.arms:
        for text in about_figure(row, role, "p50"):
            whole.append(text)
            claim, detail = _claim(_sentence(text))
            grouped.setdefault(claim, {}).setdefault(detail, []).append(role)
    told = [_sentence(text) for text in about_place(row)]
    for claim, details in grouped.items():
        roles = " and ".join(dict.fromkeys(role for each in details.values() for role in each))
        found = "; ".join(filter(None, details))
        told.append(f"{roles}: {claim}" + (f" ({found})" if found else ""))
    if told and any(_sentence(text) != text for text in whole):
        told[-1] += "; more below the table of speeds"
    return told


def _sentence(text: str) -> str:
    """The first sentence of a doubt."""
    first, _, more = text.partition(". ")
    return first if more else text


def _claim(sentence: str) -> tuple[str, str]:
    """A sentence without the figures in brackets at its end, and those figures."""
    found = re.fullmatch(r"(.+?) \((.+)\)", sentence)
    return (found[1], found[2]) if found else (sentence, "")
