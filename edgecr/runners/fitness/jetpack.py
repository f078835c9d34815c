"""The releases of JetPack as data: a version that is not listed is unknown, and nothing is assumed about it."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class JetPack:
    """One release, or several that differ in nothing that matters here: NVIDIA's L4T from ``first`` to ``last``."""

    name: str
    first: tuple[int, int, int]
    last: tuple[int, int, int]
    tensorrt: str = ""
    """The version that it comes with, as far as it is the same for all of them; empty where it is not known."""
    cuda: str = ""


RELEASES = (
    JetPack("4.6", (32, 6, 1), (32, 6, 1), "8.0.1", "10.2"),
    JetPack("4.6.1 to 4.6.6", (32, 7, 1), (32, 7, 6), "8.2.1", "10.2"),
    JetPack("5.0.2", (35, 1, 0), (35, 1, 0), "8.4.1", "11.4"),
    JetPack("5.1 to 5.1.6", (35, 2, 1), (35, 6, 4), "8.5.2", "11.4"),
    JetPack("6.0", (36, 3, 0), (36, 3, 0), "8.6.2", "12.2"),
    JetPack("6.1 to 6.2.3", (36, 4, 0), (36, 5, 2), "10.3", "12.6"),
    JetPack("7.0", (38, 2, 0), (38, 2, 0), "10.13", "13.0"),
    JetPack("7.1", (38, 4, 0), (38, 4, 0), "10.13", "13.0"),
    JetPack("7.2", (39, 2, 0), (39, 2, 0), "10.16.2", "13.2"),
    JetPack("7.2.1", (39, 2, 1), (39, 2, 1)),
)


def release_of(l4t: str | None) -> JetPack | None:
    """The release of an L4T version such as ``36.4.3``; None for one that is not in the table."""
    if not l4t or not re.fullmatch(r"\d{1,4}(\.\d{1,4}){0,2}", l4t):
        return None
    major, minor, patch = (*map(int, l4t.split(".")), 0, 0)[:3]
    return next((one for one in RELEASES if one.first <= (major, minor, patch) <= one.last), None)


def same_version(known: str, found: str) -> bool:
    """True if a version is the known one in all parts that are known: ``10.3`` and ``10.3.0.30``."""
    return found.split(".")[: len(known.split("."))] == known.split(".")
