"""A table of a report as plain cells; every renderer shows the same ones."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A titled table of plain text; ``note`` explains how to read it, ``doubts`` are what its small numbers mean."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    doubts: tuple[str, ...] = ()
