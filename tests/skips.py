"""The skips that a complete machine may have, and the tools that a machine lacks for the others.

Run as a program it says in one line what will be skipped here and how to get it; with EDGECR_STRICT_SKIPS set, a test
session with a skip that is not allowed fails.
"""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path

STRICT = "EDGECR_STRICT_SKIPS"
ALLOWED = {
    r"no emulated ARM board \(.*\)": "an emulated board of another processor is a download of 130 MB",
    r"no Python 3\.\d+ on this machine": "every Python that is installed runs the agent; none is required",
    r"the Python package tensorrt_bindings is not installed": "lists of its attributes are checked without it",
}
"""Patterns of reasons, each with why a user would accept it."""


def unlisted(reasons: list[str]) -> list[str]:
    """The reasons of skips that no pattern allows."""
    return [reason for reason in reasons if not any(re.fullmatch(pattern, reason) for pattern in ALLOWED)]


def has_openvino() -> bool:
    """Returns True if the packages of the extra ``openvino`` are there; none is imported."""
    return all(find_spec(package) is not None for package in ("openvino", "nncf"))


def missing() -> str:
    """One line: the tests that this machine will skip, and the command that brings what they need; empty if none."""
    lacks = []
    if not Path("/usr/sbin/sshd").exists():
        lacks.append("tests over SSH (bash .ci/setup, or install openssh-server)")
    if not os.environ.get("EDGECR_ARM64_BOARD"):
        lacks.append("tests of an emulated ARM board (bash tests/runners/arm64_board.sh DIR, EDGECR_ARM64_BOARD=DIR)")
    if not has_openvino():
        lacks.append("tests of OpenVINO (pip install 'edgecr[openvino]')")
    return "Will be skipped here: " + "; ".join(lacks) + "." if lacks else ""


def strict() -> bool:
    """Returns True if a skip that is not allowed fails the session."""
    return bool(os.environ.get(STRICT))


if __name__ == "__main__":
    print(missing() or "Nothing that this machine lacks will be skipped.")
